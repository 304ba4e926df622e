/** What each message of the event stream changes in what the page knows. */
import type { QueryClient } from "@tanstack/react-query";
import type { JobDetail, JobList, JobRow, Machine, Message } from "../generated/api";
import { mergeRows, removeRow } from "./jobsList";
import { LiveSeries } from "./liveSeries";

/** Names under which answers are kept: one list, used by hooks and by the stream. */
export const KEYS = {
  jobs: ["jobs"],
  job: (id: string) => ["job", id],
  metrics: (id: string) => ["metrics", id],
  samples: (id: string) => ["samples", id],
  checkpoints: (id: string) => ["checkpoints", id],
  aside: (id: string) => ["aside", id],
  trash: ["trash"],
  log: (id: string) => ["log", id],
  machine: ["machine"],
} as const;

const LIVE = ["jobs", "job", "metrics", "samples", "checkpoints", "log", "machine"];

/** Curves of running jobs since they were last fetched. */
export const liveSeries = new Map<string, LiveSeries>();

export function seriesOf(id: string): LiveSeries {
  let found = liveSeries.get(id);
  if (!found) liveSeries.set(id, (found = new LiveSeries()));
  return found;
}

export function applyMessage(client: QueryClient, message: Message): void {
  if (message.kind === "reset") {
    // models, form and settings do not change by themselves
    for (const kind of LIVE) void client.invalidateQueries({ queryKey: [kind] });
  } else if (message.kind === "jobs" && message.jobs) {
    applyRows(client, message.jobs);
  } else if (message.kind === "removed" && message.job_id) {
    const id = message.job_id;
    client.setQueryData<JobList>(KEYS.jobs, (list) => list && removeRow(list, id));
    void client.invalidateQueries({ queryKey: KEYS.job(id) });
  } else if (message.kind === "machine" && message.machine) {
    client.setQueryData<Machine>(KEYS.machine, message.machine);
  } else if (message.kind === "job" && message.job_id && message.events) {
    applyEvents(client, message.job_id, message.events);
  }
}

const NO_ROW = { arch: null, dataset: null, gpu: null, queue_position: null, planned: null, progress: null, thumb: null };
const NO_PROGRESS = { done: null, total: null, loss: null, recent_loss: null, lr: null, step_s: null, eta_s: null, phase_left_s: null };

/** Messages leave out what is null. Put back, it replaces what stood there before. */
function whole(row: JobRow): JobRow {
  return { ...NO_ROW, ...row, progress: row.progress ? { ...NO_PROGRESS, ...row.progress } : null };
}

function applyRows(client: QueryClient, sent: JobRow[]): void {
  const rows = sent.map(whole);
  client.setQueryData<JobList>(KEYS.jobs, (list) => list && mergeRows(list, rows));
  for (const row of rows) {
    const before = client.getQueryData<JobDetail>(KEYS.job(row.id));
    if (!before) continue;
    client.setQueryData<JobDetail>(KEYS.job(row.id), { ...before, ...row });
    // what can be done, and why it failed, come with the whole job only
    if (before.state !== row.state) void client.invalidateQueries({ queryKey: KEYS.job(row.id) });
  }
}

function applyEvents(client: QueryClient, id: string, events: Record<string, unknown>[]): void {
  seriesOf(id).add(events);
  const kinds = new Set(events.map((event) => event["kind"]));
  const stale: (readonly string[])[] = [];
  if (kinds.has("sample") || kinds.has("pictures")) stale.push(KEYS.samples(id));
  if (kinds.has("checkpoint")) stale.push(KEYS.checkpoints(id));
  if (["job", "end", "sample", "checkpoint"].some((kind) => kinds.has(kind))) stale.push(KEYS.metrics(id));
  if (["job", "stage", "end", "warning", "error", "done"].some((kind) => kinds.has(kind))) stale.push(KEYS.job(id));
  for (const queryKey of stale) void client.invalidateQueries({ queryKey });
}
