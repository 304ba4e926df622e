/** Filter, search and live updates of the jobs list, and the order of the queue. */
import type { JobList, JobRow } from "../generated/api";
import { groupOf, isLive, type Group } from "./states";

/** Jobs of a group whose words hold every word of the search. */
export function filterJobs(jobs: JobRow[], group: Group, search: string): JobRow[] {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  return jobs.filter((job) => {
    if (group !== "all" && groupOf(job.state) !== group) return false;
    if (!words.length) return true;
    const text = [job.name, job.state, job.reason, job.arch, job.kind, job.dataset, job.note].join(" ").toLowerCase();
    return words.every((word) => text.includes(word));
  });
}

export function countGroups(jobs: JobRow[]): Record<Group, number> {
  const counts: Record<Group, number> = { all: jobs.length, live: 0, waiting: 0, attention: 0, ended: 0 };
  for (const job of jobs) counts[groupOf(job.state)] += 1;
  return counts;
}

/** The list with changed rows put in their places and new ones first. */
export function mergeRows(list: JobList, rows: JobRow[]): JobList {
  const changed = new Map(rows.map((row) => [row.id, row]));
  const jobs = list.jobs.map((job) => {
    const row = changed.get(job.id);
    changed.delete(job.id);
    return row ?? job;
  });
  const fresh = [...changed.values()];
  return { ...list, jobs: [...fresh, ...jobs], total: list.total + fresh.length };
}

export function removeRow(list: JobList, id: string): JobList {
  const jobs = list.jobs.filter((job) => job.id !== id);
  return { ...list, jobs, total: list.total - (list.jobs.length - jobs.length) };
}

/** Running first, then waiting in their order, then the rest, newest first. */
export function inOrder(jobs: JobRow[]): JobRow[] {
  const rank = (job: JobRow) => (isLive(job.state) ? 0 : job.queue_position != null ? 1 : 2);
  return jobs.toSorted(
    (a, b) =>
      rank(a) - rank(b) ||
      (rank(a) === 1 ? a.queue_position! - b.queue_position! : b.updated - a.updated) ||
      a.id.localeCompare(b.id),
  );
}

/** Name of the queue of jobs that take the first card that is free. */
const ANY = "any";

/** Name of the queue that a job waits in, as `PUT /api/queue` takes it. */
export function queueOf(job: JobRow): string {
  return job.gpu == null ? ANY : String(job.gpu);
}

/** What a queue is called; without cards everything runs on the CPU. */
export function queueTitle(name: string, hasGpus: boolean): string {
  if (name !== ANY) return `GPU ${name}`;
  return hasGpus ? "First free GPU" : "CPU";
}

/** Waiting jobs by queue, in order. */
export function queues(jobs: JobRow[]): Map<string, JobRow[]> {
  const found = new Map<string, JobRow[]>();
  for (const job of inOrder(jobs)) {
    if (job.queue_position == null) continue;
    const name = queueOf(job);
    found.set(name, [...(found.get(name) ?? []), job]);
  }
  return found;
}

/** `items` with the one at `from` moved to `to`. */
export function moved<T>(items: readonly T[], from: number, to: number): T[] {
  if (from < 0 || from >= items.length) return [...items];
  const rest = items.toSpliced(from, 1);
  return rest.toSpliced(Math.max(0, Math.min(to, rest.length)), 0, items[from]!);
}

/** As many runs as lie beside each other. */
export const MOST_RUNS = 4;

/** Address of the page on which runs are compared. */
export function comparePath(runs: readonly string[]): string {
  return `/compare?runs=${runs.slice(0, MOST_RUNS).join(",")}`;
}
