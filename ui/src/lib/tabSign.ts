/** What a tab says of the jobs when only its title and its icon can be seen. */
import type { JobRow } from "../generated/api";
import { isLive, STATES } from "./states";

export interface TabSign {
  /** Of the steps, 0 to 100; null before the first one. */
  percent: number | null;
  words: string;
  isBad: boolean;
}

/**
 * The job that the tab speaks of: the one whose page it shows, else the one that is furthest. Null if none runs.
 *
 * @param shown id of the job whose page is open
 */
export function signOf(rows: Iterable<JobRow>, shown: string | null): TabSign | null {
  const live = [...rows].filter((row) => isLive(row.state));
  const job = live.find((row) => row.id === shown) ?? live.toSorted((a, b) => share(b) - share(a) || a.id.localeCompare(b.id))[0];
  if (!job) return null;
  const hasSteps = job.state === "training" || job.state === "sampling" || job.state === "saving" || job.state === "stopping";
  const percent = hasSteps && job.progress?.total_steps ? Math.min(100, Math.floor(100 * share(job))) : null;
  const isBad = STATES[job.state].tone === "bad";
  const state = percent === null || isBad ? STATES[job.state].word : `${percent} %`;
  const others = live.length > 1 ? ` +${live.length - 1}` : "";
  return { percent, words: `${state} ${job.name}${others}`, isBad };
}

function share(job: JobRow): number {
  return job.progress?.total_steps ? job.progress.step / job.progress.total_steps : 0;
}

/** The title of a tab: progress first, since the end is what a narrow tab cuts off. */
export function titleOf(page: string, sign: TabSign | null): string {
  return sign ? `${sign.words} · ${page}` : `${page} · Trainer`;
}

const ROUND = 2 * Math.PI * 12;

/** An icon with a ring that fills, as the address of a picture; null where the usual one is right. */
export function iconOf(sign: TabSign | null): string | null {
  if (!sign) return null;
  const color = sign.isBad ? "#d64545" : "#3fa06f";
  const done = (ROUND * (sign.percent ?? 0)) / 100;
  const middle = sign.isBad ? "M16 10v7M16 21.5v.5" : sign.percent === null ? "M10 16h.5M16 16h.5M22 16h.5" : "";
  const drawing =
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32" fill="none" stroke-linecap="round">` +
    `<circle cx="16" cy="16" r="12" stroke="#8a8f98" stroke-opacity=".45" stroke-width="6"/>` +
    (done > 0
      ? `<circle cx="16" cy="16" r="12" stroke="${color}" stroke-width="6" stroke-linecap="butt" ` +
        `stroke-dasharray="${done.toFixed(1)} ${ROUND.toFixed(1)}" transform="rotate(-90 16 16)"/>`
      : "") +
    (middle ? `<path d="${middle}" stroke="${color}" stroke-width="4"/>` : "") +
    "</svg>";
  return `data:image/svg+xml,${encodeURIComponent(drawing)}`;
}
