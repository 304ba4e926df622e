/** The pictures of the viewer under one zoom: wheel, drag, and the keys + and -. */
import { useEffect, useRef, useState, type PointerEvent } from "react";
import { fileUrl } from "../../../../lib/api";
import { cssTransform, pan, zoomAt, type View } from "../../../../lib/viewport";
import type { Mode } from "./ViewerFrame";

/** A picture and the words that lie on it. */
export interface Shown {
  file: string;
  label: string;
  alt: string;
}

interface Props {
  mode: Mode;
  sample: Shown;
  other: Shown;
  view: View;
  onView: (view: View) => void;
}

const BLINK_MS = 700;

export function Stage({ mode, sample, other, view, onView }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const latest = useRef({ view, onView });
  latest.current = { view, onView };
  const [wipe, setWipe] = useState(50);
  const [showsOther, setShowsOther] = useState(false);
  const still = useRef(matchMedia("(prefers-reduced-motion: reduce)").matches);
  useEffect(() => {
    if (mode !== "blink" || still.current) return;
    const timer = setInterval(() => setShowsOther((shows) => !shows), BLINK_MS);
    return () => clearInterval(timer);
  }, [mode]);
  useEffect(() => {
    // React's own wheel listener is passive: it could not keep the page behind from scrolling
    const element = box.current!;
    const wheel = (event: WheelEvent) => {
      event.preventDefault();
      const frame = (event.target as Element).closest(".frame")?.getBoundingClientRect();
      if (!frame) return;
      const at = { x: (event.clientX - frame.left) / frame.width, y: (event.clientY - frame.top) / frame.height };
      latest.current.onView(zoomAt(latest.current.view, Math.exp(-event.deltaY / 400), at));
    };
    element.addEventListener("wheel", wheel, { passive: false });
    return () => element.removeEventListener("wheel", wheel);
  }, []);
  const drag = (event: PointerEvent<HTMLDivElement>) => {
    if (!event.buttons || view.scale === 1 || event.target instanceof HTMLInputElement) return;
    const frame = (event.target as Element).closest(".frame")?.getBoundingClientRect();
    if (frame) onView(pan(view, event.movementX / frame.width, event.movementY / frame.height));
  };
  const middle = { x: 0.5, y: 0.5 };
  return (
    <div
      ref={box}
      className={`stage stage-${mode} ${view.scale > 1 ? "is-zoomed" : ""}`}
      tabIndex={0}
      role="group"
      aria-label="Image; press + or - to zoom"
      onPointerMove={drag}
      onKeyDown={(event) => {
        if (event.key === "+" || event.key === "=") onView(zoomAt(view, 1.4, middle));
        if (event.key === "-") onView(zoomAt(view, 1 / 1.4, middle));
      }}
    >
      {mode === "side" && <Frame sample={other} view={view} />}
      {mode === "single" || mode === "side" ? (
        <Frame sample={sample} view={view} />
      ) : (
        <div className="frame">
          <Picture sample={other} view={view} />
          <div
            className="over"
            style={mode === "wipe" ? { clipPath: `inset(0 0 0 ${wipe}%)` } : { visibility: showsOther ? "hidden" : "visible" }}
          >
            <Picture sample={sample} view={view} />
          </div>
          {mode === "wipe" ? (
            <>
              <Label sample={other} side="left" />
              <Label sample={sample} side="right" />
              <span className="wipe-line" style={{ left: `${wipe}%` }} />
              <input
                type="range"
                className="wipe-range"
                aria-label="Wipe position"
                min={0}
                max={100}
                step={0.5}
                value={wipe}
                onChange={(event) => setWipe(Number(event.target.value))}
              />
            </>
          ) : (
            <>
              <Label sample={showsOther ? other : sample} side="left" />
              {still.current && (
                <button type="button" className="button button-plain blink-by-hand" onClick={() => setShowsOther(!showsOther)}>
                  Switch
                </button>
              )}
            </>
          )}
        </div>
      )}
    </div>
  );
}

function Frame({ sample, view }: { sample: Shown; view: View }) {
  return (
    <div className="frame">
      <Picture sample={sample} view={view} />
      <Label sample={sample} side="left" />
    </div>
  );
}

function Picture({ sample, view }: { sample: Shown; view: View }) {
  return (
    <img
      src={fileUrl(sample.file)}
      alt={sample.alt}
      draggable={false}
      style={{ transform: cssTransform(view) }}
    />
  );
}

function Label({ sample, side }: { sample: Shown; side: "left" | "right" }) {
  return <span className={`frame-label frame-label-${side} figure`}>{sample.label}</span>;
}
