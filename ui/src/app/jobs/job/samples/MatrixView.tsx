/** All samples: a row for each step, a column for each prompt. Only the rows in view are drawn. */
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useRef } from "react";
import { fileUrl } from "../../../../lib/api";
import type { Sample } from "../../../../generated/api";
import type { SampleMatrix } from "../../../../lib/matrix";

const ROW_HEIGHT = 148;

export function MatrixView({ matrix, onOpen }: { matrix: SampleMatrix; onOpen: (sample: Sample) => void }) {
  const body = useRef<HTMLDivElement>(null);
  const steps = matrix.steps.toReversed();
  const rows = useWindowVirtualizer({
    count: steps.length,
    estimateSize: () => ROW_HEIGHT,
    overscan: 1,
    scrollMargin: body.current?.offsetTop ?? 0,
  });
  return (
    <div className="matrix-wrap" tabIndex={0} role="region" aria-label="All samples">
      <div className="matrix" role="table" aria-label="Samples by step and prompt" aria-rowcount={steps.length + 1}>
        <div role="row" className="matrix-row matrix-head">
          <span role="columnheader" className="matrix-step">
            Step
          </span>
          {matrix.columns.map(({ index, prompt }) => (
            <span role="columnheader" key={index} className="matrix-prompt" title={prompt}>
              {prompt}
            </span>
          ))}
        </div>
        <div role="rowgroup" ref={body} style={{ height: rows.getTotalSize(), position: "relative" }}>
          {rows.getVirtualItems().map((item) => {
            const step = steps[item.index]!;
            return (
              <div
                role="row"
                aria-rowindex={item.index + 2}
                key={step}
                className="matrix-row matrix-line"
                style={{ transform: `translateY(${item.start - rows.options.scrollMargin}px)`, height: ROW_HEIGHT }}
              >
                <span role="rowheader" className="matrix-step figure">
                  {step.toLocaleString("en")}
                </span>
                {matrix.columns.map(({ index, prompt }) => (
                  <span role="cell" key={index} className="matrix-cell">
                    <Cell sample={matrix.at(step, index)} prompt={prompt} onOpen={onOpen} />
                  </span>
                ))}
              </div>
            );
          })}
        </div>
      </div>
    </div>
  );
}

function Cell({ sample, prompt, onOpen }: { sample: Sample | undefined; prompt: string; onOpen: (sample: Sample) => void }) {
  if (!sample) return <span className="matrix-none">–</span>;
  return (
    <button type="button" className="matrix-button" onClick={() => onOpen(sample)}>
      <img src={fileUrl(sample.file, { thumb: 256 })} alt={`Step ${sample.step}: ${prompt}`} loading="lazy" decoding="async" />
    </button>
  );
}
