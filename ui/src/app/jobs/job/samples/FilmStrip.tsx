/** Every step of one prompt in a row; the picture above is the one at which the slider stands. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useRef, useState } from "react";
import { Button } from "../../../../components/Button";
import type { Sample } from "../../../../generated/api";
import { fileUrl } from "../../../../lib/api";
import type { SampleMatrix } from "../../../../lib/matrix";
import { PictureCard } from "./PromptGrid";

const FRAME_PX = 104;

interface Props {
  jobId: string;
  matrix: SampleMatrix;
  step: number;
  onStep: (step: number) => void;
  onOpen: (sample: Sample) => void;
}

export function FilmStrip({ jobId, matrix, step, onStep, onOpen }: Props) {
  const [index, setIndex] = useState(matrix.columns[0]!.index);
  const place = Math.max(0, matrix.columns.findIndex((column) => column.index === index));
  const { prompt, index: shown } = matrix.columns[place]!;
  const frames = matrix.row(shown);
  const sample = matrix.upTo(step, shown);
  const go = (by: number) => setIndex(matrix.columns[(place + by + matrix.columns.length) % matrix.columns.length]!.index);
  return (
    <div className="film">
      {matrix.columns.length > 1 && (
        <div className="row">
          <label className="inline-field film-prompt">
            Prompt
            <select value={shown} onChange={(event) => setIndex(Number(event.target.value))}>
              {matrix.columns.map((column, number) => (
                <option key={column.index} value={column.index}>
                  {number + 1}: {column.prompt}
                </option>
              ))}
            </select>
          </label>
          <Button icon="up" look="quiet" label="Previous prompt" onClick={() => go(-1)} />
          <Button icon="down" look="quiet" label="Next prompt" onClick={() => go(1)} />
        </div>
      )}
      <Strip frames={frames} current={sample} prompt={prompt} onStep={onStep} />
      <div className="film-picture">
        {sample ? (
          <PictureCard jobId={jobId} sample={sample} prompt={prompt} isOld={sample.step !== step} onOpen={onOpen} />
        ) : (
          <div className="picture-missing">No sample of this prompt up to this step</div>
        )}
      </div>
    </div>
  );
}

interface StripProps {
  frames: Sample[];
  current: Sample | undefined;
  prompt: string;
  onStep: (step: number) => void;
}

/** Only the frames in view are drawn; the current one is kept in view. */
function Strip({ frames, current, prompt, onStep }: StripProps) {
  const box = useRef<HTMLDivElement>(null);
  const items = useVirtualizer({
    horizontal: true,
    count: frames.length,
    getScrollElement: () => box.current,
    estimateSize: () => FRAME_PX,
    overscan: 4,
  });
  const width = items.scrollRect?.width;
  const at = current ? frames.indexOf(current) : -1;
  useEffect(() => {
    if (at >= 0) items.scrollToIndex(at, { align: "center" });
  }, [at, items, width]);
  return (
    <div ref={box} className="film-strip">
      <ol style={{ width: items.getTotalSize() }} aria-label={`All steps: ${prompt}`}>
        {items.getVirtualItems().map(({ index, start }) => {
          const frame = frames[index]!;
          return (
            <li key={frame.file} aria-setsize={frames.length} aria-posinset={index + 1} style={{ transform: `translateX(${start}px)` }}>
              <button type="button" className="film-frame" aria-current={index === at || undefined} onClick={() => onStep(frame.step)}>
                <img src={fileUrl(frame.file, { thumb: 256 })} alt="" loading="lazy" decoding="async" />
                <span className="figure">
                  <span className="visually-hidden">step </span>
                  {frame.step.toLocaleString("en")}
                </span>
              </button>
            </li>
          );
        })}
      </ol>
    </div>
  );
}
