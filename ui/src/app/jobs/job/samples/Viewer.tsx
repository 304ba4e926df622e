/** A picture large, alone or against another step: wipe, side by side, blink; zoom and place are the same for both. */
import { useEffect, useRef, useState } from "react";
import { Button } from "../../../../components/Button";
import { Icon } from "../../../../components/Icon";
import { Segmented } from "../../../../components/Segmented";
import { useStar } from "../../../../hooks/useActions";
import { fileUrl } from "../../../../lib/api";
import type { SampleMatrix } from "../../../../lib/matrix";
import { FIT, type View } from "../../../../lib/viewport";
import { StepSlider } from "./StepSlider";
import { Stage } from "./Stage";

const MODES = { single: "Single", wipe: "Wipe", side: "Side by side", blink: "Blink" };
export type Mode = keyof typeof MODES;

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
  const dialog = useRef<HTMLDialogElement>(null);
  const [mode, setMode] = useState<Mode>("single");
  const [view, setView] = useState<View>(FIT);
  const [otherStep, setOtherStep] = useState(() => matrix.baseline(at.index)?.step ?? at.step);
  const star = useStar();
  const sample = matrix.upTo(at.step, at.index)!;
  const other = matrix.upTo(otherStep, at.index) ?? matrix.baseline(at.index)!;
  const prompt = matrix.columns.find(({ index }) => index === at.index)?.prompt ?? "";
  useEffect(() => {
    const element = dialog.current!;
    const opener = document.activeElement;
    if (!element.open) element.showModal();
    return () => {
      element.close();
      if (opener instanceof HTMLElement) opener.focus();
    };
  }, []);
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
  const press = (event: React.KeyboardEvent) => {
    if (event.target instanceof HTMLInputElement) return;
    const run = {
      ArrowLeft: () => goStep(-1),
      ArrowRight: () => goStep(1),
      ArrowUp: () => goPrompt(-1),
      ArrowDown: () => goPrompt(1),
      s: toggleStar,
      "0": () => setView(FIT),
    }[event.key];
    if (!run || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    run();
  };
  return (
    <dialog
      ref={dialog}
      className="viewer"
      aria-label={`Sample: ${prompt}`}
      onKeyDown={press}
      onCancel={(event) => (event.preventDefault(), onClose())}
    >
      <header className="viewer-head">
        <Segmented label="Compare" options={MODES} value={mode} onChange={setMode} />
        <span className="viewer-actions">
          <Button icon="zoom" look="quiet" label="Fit to window" disabled={view.scale === 1} onClick={() => setView(FIT)} />
          <Button
            icon="star"
            look="quiet"
            className={sample.is_starred ? "is-on" : ""}
            aria-pressed={sample.is_starred}
            label={sample.is_starred ? "Remove star" : "Star"}
            onClick={toggleStar}
          />
          <a className="button button-quiet button-icon" href={fileUrl(sample.file, { download: true })} download aria-label="Download" title="Download">
            <Icon name="download" />
          </a>
          <Button icon="cross" look="quiet" label="Close" onClick={onClose} />
        </span>
      </header>
      <Stage mode={mode} sample={sample} other={other} prompt={prompt} view={view} onView={setView} />
      <footer className="viewer-foot">
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
      </footer>
    </dialog>
  );
}
