/** Options and data of a uPlot chart in the colours of the page. */
import type uPlot from "uplot";
import type { Mark, Series } from "../../../../generated/api";
import type { Range } from "../../../../hooks/useMetrics";
import { aligned, joined, titleOf } from "../../../../lib/charts";
import type { Overlay } from "../../../../lib/overlays";
import { smooth } from "../../../../lib/smoothing";

interface Latest {
  marks: Mark[];
  onRange: (range: Range) => void;
  onHover: (text: string) => void;
  format: (value: number | null | undefined) => string;
}

interface PlotOptions {
  element: HTMLElement;
  keys: string[];
  hasBand: boolean;
  /** other runs, drawn behind the one curve */
  others: { name: string; colour: string; dash: number[] }[];
  isLog: boolean;
  width: number;
  height: number;
  latest: () => Latest;
}

/** Ticks stand at whole steps, however few there are. */
const WHOLE_STEPS = Array.from({ length: 10 }, (_, power) => [1, 2, 5].map((digit) => digit * 10 ** power)).flat();

/** One curve: low, high, raw, smoothed, then that of each other run, smoothed. Several curves: each smoothed. */
export function plotData(series: readonly Series[], overlays: readonly Overlay[], smoothing: number): uPlot.AlignedData {
  const only = series.length === 1 ? series[0]! : undefined;
  if (only) {
    const curve = ({ steps, mean }: Series) => ({ steps, values: smooth(steps, mean, smoothing) });
    const own = [only.low, only.high, only.mean].map((values) => ({ steps: only.steps, values }));
    const { steps, columns } = joined([...own, curve(only), ...overlays.map((other) => curve(other.series[0]!))]);
    return [steps, ...columns];
  }
  const { steps, columns } = aligned(series);
  return [steps, ...columns.map((column) => smooth(steps, column, smoothing))];
}

/** A colour of the page as the canvas understands it. */
function colour(element: HTMLElement, name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(${name})`;
  element.append(probe);
  const value = getComputedStyle(probe).color;
  probe.remove();
  return value;
}

export function plotOptions({ element, keys, hasBand, others, isLog, width, height, latest }: PlotOptions): uPlot.Options {
  const paint = (name: string) => () => colour(element, name);
  const axis = {
    stroke: paint("--text-2"),
    grid: { stroke: paint("--line"), width: 1 },
    ticks: { show: false },
    font: "12px system-ui, sans-serif",
    labelFont: "12px system-ui, sans-serif",
  };
  const line = (label: string, stroke: string, more: Partial<uPlot.Series> = {}): uPlot.Series => ({
    label,
    stroke: paint(stroke),
    points: { show: false },
    spanGaps: true,
    ...more,
  });
  const curves = hasBand
    ? [
        line("low", "--transparent", { width: 0 }),
        line("high", "--transparent", { width: 0 }),
        line("raw", "--curve-raw", { width: 1 }),
        line("smoothed", "--series-0", { width: 2 }),
        ...others.map(({ name, colour: stroke, dash }) => line(name, stroke, { width: 1.5, dash })),
      ]
    : keys.map((key, place) => line(titleOf(key), `--series-${place % 6}`, { width: 1.5 }));
  return {
    width,
    height,
    legend: { show: false },
    cursor: { y: false, drag: { x: true, y: false, setScale: false }, points: { size: 7 } },
    scales: { x: { time: false }, y: { distr: isLog ? 3 : 1 } },
    series: [{}, ...curves],
    bands: hasBand ? [{ series: [2, 1], fill: paint("--curve-band") }] : [],
    axes: [
      { ...axis, size: 28, grid: { show: false }, incrs: WHOLE_STEPS, values: (_plot, ticks) => ticks.map((tick) => tick.toLocaleString("en")) },
      { ...axis, size: 64, values: (_plot, ticks) => ticks.map((tick) => (tick == null ? "" : latest().format(tick))) },
    ],
    hooks: {
      setCursor: [(plot) => latest().onHover(readout(plot, keys, hasBand, others, latest().format))],
      setSelect: [
        (plot) => {
          if (plot.select.width < 4) return;
          const from = plot.posToVal(plot.select.left, "x");
          latest().onRange([from, plot.posToVal(plot.select.left + plot.select.width, "x")]);
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
        },
      ],
      ready: [(plot) => plot.over.addEventListener("dblclick", () => latest().onRange(null))],
      draw: [(plot) => drawMarks(plot, latest().marks, element)],
    },
  };
}

function readout(plot: uPlot, keys: string[], hasBand: boolean, others: PlotOptions["others"], format: Latest["format"]): string {
  const place = plot.cursor.idx;
  if (place == null || plot.cursor.left == null || plot.cursor.left < 0) return "";
  const value = (row: number) => format(nearest(plot.data[row] ?? [], place));
  const step = `step ${plot.data[0][place]?.toLocaleString("en")}`;
  if (hasBand) return [`${value(3)}, smoothed ${value(4)}`, ...others.map(({ name }, row) => `${name} ${value(row + 5)}`), step].join(" · ");
  return `${keys.map((key, row) => `${titleOf(key)} ${value(row + 1)}`).join(", ")} · ${step}`;
}

/** The value at a place or, where another run has a step and this one has none, the last before it. */
function nearest(values: ArrayLike<number | null | undefined>, place: number): number | null {
  for (let at = place; at >= 0; at -= 1) if (values[at] != null) return at === place || hasLater(values, place) ? values[at]! : null;
  return null;
}

function hasLater(values: ArrayLike<number | null | undefined>, place: number): boolean {
  for (let at = place + 1; at < values.length; at += 1) if (values[at] != null) return true;
  return false;
}

const MARKS: Record<Mark["kind"], { dash: number[]; sign: string }> = {
  sample: { dash: [1, 5], sign: "" },
  checkpoint: { dash: [4, 4], sign: "◆" },
  resume: { dash: [], sign: "▶" },
  end: { dash: [], sign: "■" },
};

/** Lines at checkpoints, samples and starts; each kind has its own dashes and its own sign. */
function drawMarks(plot: uPlot, marks: readonly Mark[], element: HTMLElement): void {
  const { ctx, bbox } = plot;
  const pixel = devicePixelRatio;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = colour(element, "--mark");
  ctx.font = `${9 * pixel}px system-ui, sans-serif`;
  ctx.textAlign = "center";
  ctx.lineWidth = pixel;
  for (const mark of marks) {
    const x = Math.round(plot.valToPos(mark.step, "x", true)) + 0.5;
    if (x < bbox.left || x > bbox.left + bbox.width) continue;
    const { dash, sign } = MARKS[mark.kind];
    ctx.setLineDash(dash.map((length) => length * pixel));
    ctx.beginPath();
    ctx.moveTo(x, bbox.top + (sign ? 10 * pixel : 0));
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    if (sign) ctx.fillText(sign, x, bbox.top + 8 * pixel);
  }
  ctx.restore();
}
