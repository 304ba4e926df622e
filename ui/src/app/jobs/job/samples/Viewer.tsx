/** A sample large, alone or against another step of the same prompt. */
import { useState } from "react";
import { Button } from "../../../../components/Button";
import { useStar } from "../../../../hooks/useActions";
import type { Sample } from "../../../../generated/api";
import type { SampleMatrix } from "../../../../lib/matrix";
import { StepSlider } from "./StepSlider";
import { ViewerFrame } from "./ViewerFrame";

interface Place {
  step: number;
  index: number;
}

interface Props {
  jobId: string;
  matrix: SampleMatrix;
  at: Place;
  onMove: (place: Place) => void;
  onClose: () => void;
}

export function Viewer({ jobId, matrix, at, onMove, onClose }: Props) {
  const [otherStep, setOtherStep] = useState(() => matrix.baseline(at.index)?.step ?? at.step);
  const star = useStar();
  const sample = matrix.upTo(at.step, at.index)!;
  const other = matrix.upTo(otherStep, at.index) ?? matrix.baseline(at.index)!;
  const prompt = matrix.columns.find(({ index }) => index === at.index)?.prompt ?? "";
  const goStep = (by: number) => {
    const place = matrix.steps.indexOf(at.step) + by;
    const step = matrix.steps[Math.max(0, Math.min(matrix.steps.length - 1, place))]!;
    onMove({ ...at, step });
  };
  const goPrompt = (by: number) => {
    const place = matrix.columns.findIndex(({ index }) => index === at.index) + by;
    const column = matrix.columns[(place + matrix.columns.length) % matrix.columns.length]!;
    if (matrix.upTo(at.step, column.index)) onMove({ ...at, index: column.index });
  };
  const toggleStar = () => star.mutate({ id: jobId, file: sample.file, isStarred: !sample.is_starred });
  const shown = ({ file, step }: Sample) => ({ file, label: `step ${step.toLocaleString("en")}`, alt: `Step ${step}: ${prompt}` });
  return (
    <ViewerFrame
      label={`Sample: ${prompt}`}
      sample={shown(sample)}
      other={shown(other)}
      keys={{
        ArrowLeft: () => goStep(-1),
        ArrowRight: () => goStep(1),
        ArrowUp: () => goPrompt(-1),
        ArrowDown: () => goPrompt(1),
        s: toggleStar,
      }}
      onClose={onClose}
      actions={
        <Button
          icon="star"
          look="quiet"
          className={sample.is_starred ? "is-on" : ""}
          aria-pressed={sample.is_starred}
          label={sample.is_starred ? "Remove star" : "Star"}
          onClick={toggleStar}
        />
      }
      foot={(mode) => (
        <>
          <div className="viewer-line">
            <p className="viewer-prompt">{prompt}</p>
            {matrix.columns.length > 1 && (
              <>
                <Button icon="up" look="quiet" label="Previous prompt" onClick={() => goPrompt(-1)} />
                <Button icon="down" look="quiet" label="Next prompt" onClick={() => goPrompt(1)} />
              </>
            )}
          </div>
          <div className="row">
            {mode !== "single" && <StepSlider label="Compare with step" steps={matrix.steps} value={other.step} onChange={setOtherStep} />}
            <StepSlider steps={matrix.steps} value={at.step} onChange={(step) => onMove({ ...at, step })} />
          </div>
        </>
      )}
    />
  );
}
