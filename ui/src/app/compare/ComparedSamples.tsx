/** Samples of the same prompt and step side by side, under one slider of steps. */
import { useMemo, useState } from "react";
import { useQueries } from "@tanstack/react-query";
import { samplesQuery } from "../../hooks/queries";
import { useKeys } from "../../hooks/useKeys";
import type { JobRow, Sample } from "../../generated/api";
import { fileUrl } from "../../lib/api";
import { promptRows, stepsOf } from "../../lib/compareView";
import { nearestStep, SampleMatrix } from "../../lib/matrix";
import { RowViewer } from "../jobs/job/samples/RowViewer";
import { StepSlider } from "../jobs/job/samples/StepSlider";

interface Props {
  runs: JobRow[];
  /** null: the last step */
  step: number | null;
  onStep: (step: number | null) => void;
}

export function ComparedSamples({ runs, step: chosen, onStep }: Props) {
  const results = useQueries({ queries: runs.map(({ id }) => samplesQuery(id)) });
  const updated = results.map(({ dataUpdatedAt }) => dataUpdatedAt).join();
  const [open, setOpen] = useState<{ row: number; run: number } | null>(null);
  const { matrices, rows, steps } = useMemo(() => {
    const found = results.map(({ data }) => data && new SampleMatrix(data));
    return { matrices: found, rows: promptRows(found), steps: stepsOf(found.flatMap((each) => each ?? [])) };
    // the answers are new lists each time: when they came decides
    // oxlint-disable-next-line react-hooks/exhaustive-deps
  }, [updated]);
  const last = steps.at(-1) ?? 0;
  const step = chosen === null ? last : (nearestStep(steps, chosen) ?? last);
  const go = (to: number | undefined) => to !== undefined && onStep(to === last ? null : to);
  const by = (places: number) => go(steps[Math.max(0, Math.min(steps.length - 1, steps.indexOf(step) + places))]);
  useKeys(open ? {} : { ArrowLeft: () => by(-1), ArrowRight: () => by(1), Home: () => go(steps[0]), End: () => go(last) });
  if (!rows.length) return null;
  const cell = (row: number, run: number): Sample | undefined => {
    const index = rows[row]!.indices[run];
    return index === undefined ? undefined : matrices[run]?.upTo(step, index);
  };
  return (
    <section aria-label="Samples">
      <div className="samples-head">
        <h2>Samples</h2>
        <StepSlider steps={steps} value={step} onChange={go} />
      </div>
      {rows.map(({ prompt, indices }, row) => (
        <div key={`${row} ${prompt}`} className="compare-prompt" role="group" aria-label={prompt}>
          <p className="prompt" title={prompt}>{prompt}</p>
          <ul className="compare-columns" style={{ "--runs": runs.length } as React.CSSProperties}>
            {runs.map((run, place) => (
              <li key={run.id}>
                <Cell run={run} sample={cell(row, place)} step={step} prompt={prompt} isKnown={indices[place] !== undefined} onOpen={() => setOpen({ row, run: place })} />
              </li>
            ))}
          </ul>
        </div>
      ))}
      {open && (
        <RowViewer
          prompt={rows[open.row]!.prompt}
          what="Run"
          pictures={runs.map((run, place) => shown(run, cell(open.row, place)))}
          at={open.run}
          onMove={(run) => setOpen({ ...open, run })}
          onClose={() => setOpen(null)}
          foot={<StepSlider steps={steps} value={step} onChange={go} />}
        />
      )}
    </section>
  );
}

function shown(run: JobRow, sample: Sample | undefined) {
  return sample && { file: sample.file, label: run.name, alt: `${run.name}, step ${sample.step}: ${sample.prompt ?? ""}` };
}

interface CellProps {
  run: JobRow;
  sample: Sample | undefined;
  step: number;
  prompt: string;
  isKnown: boolean;
  onOpen: () => void;
}

function Cell({ run, sample, step, prompt, isKnown, onOpen }: CellProps) {
  const ratio = sample?.width && sample.height ? `${sample.width} / ${sample.height}` : "1";
  return (
    <figure className="picture">
      {sample ? (
        <button type="button" className="picture-button" onClick={onOpen} style={{ aspectRatio: ratio }}>
          <img src={fileUrl(sample.file, { thumb: 512 })} alt={`${run.name}, step ${sample.step}: ${prompt}`} decoding="async" />
        </button>
      ) : (
        <div className="picture-missing">{isKnown ? "No sample up to this step" : "Not a prompt of this run"}</div>
      )}
      <figcaption>
        <span>{run.name}</span>
        {sample && (
          <span className="hint figure">
            {sample.step !== step && <>step {sample.step.toLocaleString("en")} </>}
            {sample.seed != null && <>seed {sample.seed}</>}
          </span>
        )}
      </figcaption>
    </figure>
  );
}
