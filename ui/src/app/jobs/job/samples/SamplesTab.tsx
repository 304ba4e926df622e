/** Samples: one slider of steps for all prompts, one prompt through all steps, or the whole matrix of both. */
import { useEffect, useMemo, useState } from "react";
import { Empty, ErrorCard, Waiting } from "../../../../components/Page";
import { Segmented } from "../../../../components/Segmented";
import { useSamples } from "../../../../hooks/queries";
import { useKeys } from "../../../../hooks/useKeys";
import type { JobDetail, Sample } from "../../../../generated/api";
import { count } from "../../../../lib/format";
import { nearestStep, SampleMatrix } from "../../../../lib/matrix";
import { isLive } from "../../../../lib/states";
import { FilmStrip } from "./FilmStrip";
import { MatrixView } from "./MatrixView";
import { PromptGrid } from "./PromptGrid";
import { StepSlider } from "./StepSlider";
import { Viewer } from "./Viewer";

const VIEWS = { step: "One step", strip: "Film strip", matrix: "All steps", starred: "Starred" };

export function SamplesTab({ job }: { job: JobDetail }) {
  const { data, error } = useSamples(job.id);
  const matrix = useMemo(() => data && new SampleMatrix(data), [data]);
  if (error && !data) return <ErrorCard error={error} title="Couldn’t load the samples" />;
  if (!matrix) return <Waiting what="Loading samples" />;
  if (!matrix.count)
    return (
      <Empty title="No samples yet.">
        <p>
          {isLive(job.state)
            ? "Samples appear here as they are generated. “Sample now” generates them after the current step."
            : "Samples are generated during training, from the prompts in the job’s settings."}
        </p>
      </Empty>
    );
  return <Samples job={job} matrix={matrix} />;
}

function Samples({ job, matrix }: { job: JobDetail; matrix: SampleMatrix }) {
  const [chosen, setChosen] = useState<number | null>(null); // null: follow the newest
  const [view, setView] = useState<keyof typeof VIEWS>("step");
  const [open, setOpen] = useState<{ step: number; index: number } | null>(null);
  const last = matrix.steps.at(-1)!;
  const step = chosen === null ? last : (nearestStep(matrix.steps, chosen) ?? last);
  const choose = (next: number) => setChosen(next === last ? null : next);
  const go = (by: number) => {
    const place = Math.max(0, Math.min(matrix.steps.length - 1, matrix.steps.indexOf(step) + by));
    choose(matrix.steps[place]!);
  };
  useKeys(
    open ? {} : { ArrowLeft: () => go(-1), ArrowRight: () => go(1), Home: () => choose(matrix.steps[0]!), End: () => choose(last) },
  );
  useEffect(() => {
    if (open && !matrix.at(open.step, open.index)) setOpen(null);
  }, [matrix, open]);
  const show = (sample: Sample) => setOpen({ step: sample.step, index: sample.index });
  return (
    <>
      <div className="samples-head">
        <Segmented label="View" options={VIEWS} value={view} onChange={setView} />
        <span className="hint figure">{count(matrix.count, "image")}</span>
        {(view === "step" || view === "strip") && <StepSlider steps={matrix.steps} value={step} onChange={choose} />}
      </div>
      {view === "step" && <PromptGrid jobId={job.id} matrix={matrix} step={step} onOpen={show} />}
      {view === "strip" && <FilmStrip jobId={job.id} matrix={matrix} step={step} onStep={choose} onOpen={show} />}
      {view === "matrix" && <MatrixView matrix={matrix} onOpen={show} />}
      {view === "starred" &&
        (matrix.starred().length ? (
          <PromptGrid jobId={job.id} matrix={matrix} only={matrix.starred()} step={step} onOpen={show} />
        ) : (
          <Empty title="Nothing starred yet.">
            <p>Star an image to keep it in this view.</p>
          </Empty>
        ))}
      {open && (
        <Viewer
          jobId={job.id}
          matrix={matrix}
          at={open}
          onMove={(next) => (setOpen(next), choose(next.step))}
          onClose={() => setOpen(null)}
        />
      )}
    </>
  );
}
