/** Other runs in the charts of a job: which can be compared with it, and which one its ghost is. */
import type { JobRow, Series } from "../generated/api";
import type { ChartSpec } from "./charts";

/** The curves of another run, to be drawn behind those of a job. */
export interface Overlay {
  id: string;
  name: string;
  isGhost: boolean;
  /** among the other runs, from 0: the same line in every chart */
  place: number;
  series: Series[];
}

export const GHOSTS = { none: "None", previous: "Previous run", best: "Lowest loss" };
export type Ghost = keyof typeof GHOSTS;

/** As many as the colours and dashes can tell apart, and the server keeps at hand. */
export const MOST_OVERLAYS = 3;

/** Other jobs that have taken a step: those of the same model and images first, then the newest. */
export function comparable(jobs: readonly JobRow[], job: JobRow): JobRow[] {
  return jobs
    .filter((other) => other.id !== job.id && (other.progress?.step ?? 0) > 0)
    .toSorted((a, b) => likeness(b, job) - likeness(a, job) || b.created - a.created || a.id.localeCompare(b.id));
}

/** Of the runs of the same model and images: the one before this, or the finished one that ended with the lowest loss. */
export function ghostOf(kind: Ghost, jobs: readonly JobRow[], job: JobRow): JobRow | undefined {
  const alike = comparable(jobs, job).filter((other) => likeness(other, job) === ALIKE);
  if (kind === "previous") return alike.find((other) => other.created < job.created);
  if (kind === "none") return undefined;
  const loss = (other: JobRow) => other.progress?.recent_loss ?? Infinity;
  return alike.filter((other) => other.state === "done" && loss(other) < Infinity).toSorted((a, b) => loss(a) - loss(b))[0];
}

/** The ids of a link that are those of jobs, each once, at most so many as can be shown. */
export function chosenIn(text: string | null, jobs: readonly JobRow[], job: JobRow): string[] {
  const known = new Set(comparable(jobs, job).map(({ id }) => id));
  return [...new Set((text ?? "").split(","))].filter((id) => known.has(id)).slice(0, MOST_OVERLAYS);
}

/** Those that have the curve of a chart; a chart of several curves has no room for more. */
export function overlaysOf(chart: Pick<ChartSpec, "keys">, overlays: readonly Overlay[]): Overlay[] {
  if (chart.keys.length !== 1) return NO_OVERLAYS;
  const key = chart.keys[0]!;
  const found = overlays.flatMap((other) => {
    const series = other.series.filter((each) => each.key === key);
    return series.length ? [{ ...other, series }] : [];
  });
  return found.length ? found : NO_OVERLAYS;
}

/** Colour and dashes of the line of each overlay: no two are told apart by colour alone. */
export function lookOf({ isGhost, place }: Pick<Overlay, "isGhost" | "place">): { colour: string; dash: number[] } {
  if (isGhost) return { colour: "--text-2", dash: [2, 4] };
  return { colour: `--series-${place + 1}`, dash: [[8, 3], [4, 3], [8, 3, 2, 3]][place % MOST_OVERLAYS]! };
}

const NO_OVERLAYS: Overlay[] = [];
const ALIKE = 3;

function likeness(other: JobRow, job: JobRow): number {
  return (other.arch === job.arch ? 2 : 0) + (other.dataset === job.dataset ? 1 : 0);
}
