/** A picture large, alone or against another: wipe, side by side, blink; zoom and place are the same for both. */
import { useEffect, useRef, useState, type KeyboardEvent, type ReactNode } from "react";
import { Button } from "../../../../components/Button";
import { Icon } from "../../../../components/Icon";
import { Segmented } from "../../../../components/Segmented";
import { fileUrl } from "../../../../lib/api";
import { FIT, type View } from "../../../../lib/viewport";
import { Stage, type Shown } from "./Stage";

const MODES = { single: "Single", wipe: "Wipe", side: "Side by side", blink: "Blink" };
export type Mode = keyof typeof MODES;

interface Props {
  label: string;
  sample: Shown;
  other: Shown;
  firstMode?: Mode;
  actions?: ReactNode;
  /** what stands below, which may choose the other picture */
  foot: (mode: Mode) => ReactNode;
  keys: Record<string, () => void>;
  onClose: () => void;
}

export function ViewerFrame({ label, sample, other, firstMode = "single", actions, foot, keys, onClose }: Props) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [mode, setMode] = useState<Mode>(firstMode);
  const [view, setView] = useState<View>(FIT);
  useEffect(() => {
    const element = dialog.current!;
    const opener = document.activeElement;
    if (!element.open) element.showModal();
    return () => {
      element.close();
      if (opener instanceof HTMLElement) opener.focus();
    };
  }, []);
  const press = (event: KeyboardEvent) => {
    if (event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) return;
    const run = event.key === "0" ? () => setView(FIT) : keys[event.key];
    if (!run || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    run();
  };
  return (
    <dialog ref={dialog} className="viewer" aria-label={label} onKeyDown={press} onCancel={(event) => (event.preventDefault(), onClose())}>
      <header className="viewer-head">
        <Segmented label="Compare" options={MODES} value={mode} onChange={setMode} />
        <span className="viewer-actions">
          <Button icon="zoom" look="quiet" label="Fit to window" disabled={view.scale === 1} onClick={() => setView(FIT)} />
          {actions}
          <a className="button button-quiet button-icon" href={fileUrl(sample.file, { download: true })} download aria-label="Download" title="Download">
            <Icon name="download" />
          </a>
          <Button icon="cross" look="quiet" label="Close" onClick={onClose} />
        </span>
      </header>
      <Stage mode={mode} sample={sample} other={other} view={view} onView={setView} />
      <footer className="viewer-foot">{foot(mode)}</footer>
    </dialog>
  );
}
