/** Draws curves with uPlot: made once, fed anew when figures come. */
import { useEffect, useImperativeHandle, useMemo, useRef, type Ref } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import type { Mark, Series } from "../../../../generated/api";
import type { Range } from "../../../../hooks/useMetrics";
import { lookOf, type Overlay } from "../../../../lib/overlays";
import { plotData, plotOptions } from "./plot";

export interface ChartHandle {
  picture: () => Promise<Blob | null>;
}

interface Props {
  series: Series[];
  overlays: Overlay[];
  marks: Mark[];
  smoothing: number;
  isLog: boolean;
  range: Range;
  onRange: (range: Range) => void;
  onHover: (text: string) => void;
  format: (value: number | null | undefined) => string;
  ref?: Ref<ChartHandle>;
}

const HEIGHT = 200;

export function Chart({ series, overlays, marks, smoothing, isLog, range, onRange, onHover, format, ref }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const data = useMemo(() => plotData(series, overlays, smoothing), [series, overlays, smoothing]);
  // what the plot asks for while it lives; it is made anew only when its curves or its scale change
  const latest = useRef({ overlays, marks, onRange, onHover, format, data });
  latest.current = { overlays, marks, onRange, onHover, format, data };
  const keys = series.map((each) => each.key).join("\n");
  const others = overlays.map((other) => `${other.id} ${other.isGhost} ${other.place}`).join();
  const hasBand = series.length === 1;
  useEffect(() => {
    const element = box.current!;
    const options = plotOptions({
      element,
      keys: keys.split("\n"),
      hasBand,
      others: latest.current.overlays.map((other) => ({ name: other.name, ...lookOf(other) })),
      isLog,
      width: element.clientWidth || 600,
      height: HEIGHT,
      latest: () => latest.current,
    });
    const made = new uPlot(options, latest.current.data, element);
    plot.current = made;
    latest.current.onHover("");
    const observer = new ResizeObserver(([entry]) => made.setSize({ width: entry!.contentRect.width, height: HEIGHT }));
    observer.observe(element);
    const repaint = () => made.redraw(false);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", repaint);
    return () => {
      observer.disconnect();
      scheme.removeEventListener("change", repaint);
      made.destroy();
      plot.current = null;
    };
  }, [keys, others, hasBand, isLog]);
  useEffect(() => {
    const now = plot.current;
    if (!now) return;
    now.setData(data, true);
    if (range) now.setScale("x", { min: range[0], max: range[1] });
    if (now.cursor.idx == null) latest.current.onHover("");
  }, [data, range]);
  useEffect(() => plot.current?.redraw(false), [marks]);
  useImperativeHandle(ref, () => ({
    picture: () => new Promise((resolve) => (plot.current ? plot.current.ctx.canvas.toBlob(resolve) : resolve(null))),
  }));
  return <div ref={box} className="chart" style={{ height: HEIGHT }} />;
}
