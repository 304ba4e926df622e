import { expect, it } from "vitest";
import type { JobRow } from "../generated/api";
import { row } from "../test/fixtures";
import { countGroups, filterJobs, inOrder, mergeRows, moved, queues, queueTitle, removeRow } from "./jobsList";

const jobs: JobRow[] = [
  row({ id: "done", state: "done", updated: 10 }),
  row({ id: "second", state: "queued", queue_position: 2 }),
  row({ id: "live", state: "training", updated: 5 }),
  row({ id: "first", state: "queued", queue_position: 1 }),
  row({ id: "bad", state: "failed", updated: 20, reason: "out of memory" }),
];
const ids = (found: JobRow[]) => found.map((job) => job.id);

it("lists what runs, then what waits in its order, then the rest, newest first", () => {
  expect(ids(inOrder(jobs))).toEqual(["live", "first", "second", "bad", "done"]);
});

it("finds jobs by group and by every word of the search", () => {
  expect(ids(filterJobs(jobs, "attention", ""))).toEqual(["bad"]);
  expect(ids(filterJobs(jobs, "all", "MEMORY out"))).toEqual(["bad"]);
  expect(filterJobs(jobs, "all", "memory missing")).toEqual([]);
  expect(countGroups(jobs)).toEqual({ all: 5, live: 1, waiting: 2, attention: 1, ended: 1 });
});

it("puts a changed row in its place and a new one first", () => {
  const list = { jobs, total: 5, is_queue_paused: false };
  const merged = mergeRows(list, [row({ id: "live", state: "stopping" }), row({ id: "new" })]);
  expect(ids(merged.jobs)).toEqual(["new", "done", "second", "live", "first", "bad"]);
  expect(merged.jobs[3]!.state).toBe("stopping");
  expect(merged.total).toBe(6);
  expect(removeRow(merged, "new").total).toBe(5);
  expect(removeRow(merged, "absent").total).toBe(6);
});

it("keeps a queue for each card", () => {
  const found = queues([...jobs, row({ id: "card", state: "queued", gpu: 1, queue_position: 1 })]);
  expect(ids(found.get("any")!)).toEqual(["first", "second"]);
  expect(ids(found.get("1")!)).toEqual(["card"]);
});

it("calls the queue without a card CPU only where there is no card", () => {
  expect(["any", "1"].map((name) => queueTitle(name, true))).toEqual(["First free GPU", "GPU 1"]);
  expect(queueTitle("any", false)).toBe("CPU");
});

it("moves an entry and loses none", () => {
  expect(moved(["a", "b", "c"], 0, 2)).toEqual(["b", "c", "a"]);
  expect(moved(["a", "b", "c"], 2, 0)).toEqual(["c", "a", "b"]);
  expect(moved(["a"], 3, 0)).toEqual(["a"]);
});
