/** When waiting jobs will start: what runs must end first, then those before them in the queue, card by card. */
import type { JobRow } from "../generated/api";
import { clock } from "./format";
import { isLive } from "./states";

/** Seconds from now, at the earliest and at the latest; or why nothing can be said. */
export type StartTime = { low: number; high: number } | { unknown: string };

/** The rest of a run by its steps alone leaves out samples and checkpoints. */
const REST_HIGH = 1.25;

/** @param gpus numbers of the cards; empty: jobs run one after another on the CPU. */
export function startTimes(jobs: readonly JobRow[], gpus: readonly number[]): Map<string, StartTime> {
  const free = new Map<number | null, StartTime>((gpus.length ? gpus : [null]).map((slot) => [slot, { low: 0, high: 0 }]));
  for (const job of jobs) {
    if (!isLive(job.state)) continue;
    const slot = gpus.length ? job.gpu : null;
    if (free.has(slot)) free.set(slot, later(free.get(slot)!, restOf(job)));
  }
  const found = new Map<string, StartTime>();
  const waiting = jobs.filter((job) => job.queue_position != null).toSorted((a, b) => a.queue_position! - b.queue_position!);
  for (const job of waiting) {
    if (job.state !== "queued") continue; // one that is paused is passed over
    const slot = slotFor(job, free);
    const start: StartTime = job.is_held ? { unknown: `${job.name} waits for memory` } : free.get(slot)!;
    found.set(job.id, job.is_held ? { unknown: "" } : start);
    free.set(slot, after(start, job));
  }
  return found;
}

/** "Starts between 22:40 and 23:10." */
export function startWords(time: StartTime | undefined, now_ms: number = Date.now()): string {
  if (!time) return "";
  if ("unknown" in time) return time.unknown && `Start time unknown: ${time.unknown}.`;
  if (time.high <= 0) return "";
  const [low, high] = [time.low, time.high].map((from_now) => clock(now_ms / 1000 + from_now, now_ms));
  return low === high ? `Starts around ${low}.` : `Starts between ${low} and ${high}.`;
}

/** The card that it is given, or the one that is free first. */
function slotFor(job: JobRow, free: ReadonlyMap<number | null, StartTime>): number | null {
  if (job.gpu != null && free.has(job.gpu)) return job.gpu;
  const low = (time: StartTime) => ("unknown" in time ? Infinity : time.low);
  return [...free].reduce((best, other) => (low(other[1]) < low(best[1]) ? other : best))[0];
}

function restOf(job: JobRow): StartTime {
  const left = job.progress?.eta_s;
  if (left != null) return { low: left, high: left * REST_HIGH };
  return after({ low: 0, high: 0 }, job);
}

function after(start: StartTime, { name, planned }: JobRow): StartTime {
  if ("unknown" in start) return start;
  if (!planned) return { unknown: `how long ${name} takes has not been estimated yet` };
  if (planned.low_s == null || planned.high_s == null) return { unknown: `how long ${name} takes is not known, because ${planned.basis}` };
  return { low: start.low + planned.low_s, high: start.high + planned.high_s };
}

/** The later of two ends of runs on one card. */
function later(a: StartTime, b: StartTime): StartTime {
  if ("unknown" in a) return a;
  if ("unknown" in b) return b;
  return { low: Math.max(a.low, b.low), high: Math.max(a.high, b.high) };
}
