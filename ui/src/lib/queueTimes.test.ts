import { expect, it } from "vitest";
import type { JobRow } from "../generated/api";
import { progress, row } from "../test/fixtures";
import { startTimes, startWords } from "./queueTimes";

const running = (gpu: number | null, eta_s: number | null, given: Partial<JobRow> = {}) =>
  row({ id: `run-${gpu}`, name: `run-${gpu}`, state: "training", gpu, progress: progress({ eta_s }), ...given });
const waiting = (id: string, queue_position: number, low_s: number | null, given: Partial<JobRow> = {}) =>
  row({
    id,
    name: id,
    state: "queued",
    queue_position,
    planned: { low_s, high_s: low_s && 2 * low_s, basis: low_s ? "calculated" : "its check finds problems" },
    ...given,
  });
const times = (jobs: JobRow[], gpus: number[] = [0]) => Object.fromEntries(startTimes(jobs, gpus));

it("adds up what runs and what waits before, to a range", () => {
  const jobs = [running(0, 100), waiting("b", 2, 30, { gpu: 0 }), waiting("a", 1, 10, { gpu: 0 }), waiting("c", 3, 1, { gpu: 0 })];
  expect(times(jobs)).toEqual({ a: { low: 100, high: 125 }, b: { low: 110, high: 145 }, c: { low: 140, high: 205 } });
});

it("gives a job of no card to the one that is free first", () => {
  const jobs = [running(0, 100), running(1, 40), waiting("a", 1, 10), waiting("b", 2, 10)];
  expect(times(jobs, [0, 1])).toEqual({ a: { low: 40, high: 50 }, b: { low: 50, high: 70 } });
  expect(times([running(null, 8), waiting("a", 1, 10)], [])).toEqual({ a: { low: 8, high: 10 } });
});

it("takes the plan of a run that has not stepped yet, and passes over what is paused", () => {
  const starting = running(0, null, { state: "encoding", planned: { low_s: 60, high_s: 90, basis: "calculated" } });
  const jobs = [starting, waiting("paused", 1, 1000, { state: "paused" }), waiting("a", 2, 10)];
  expect(times(jobs)).toEqual({ a: { low: 60, high: 90 } });
});

it("says why nothing can be said, and of whom", () => {
  const jobs = [waiting("a", 1, null), waiting("b", 2, 10), waiting("c", 3, 10)];
  const because = { unknown: "how long a takes is not known, because its check finds problems" };
  expect(times(jobs)).toEqual({ a: { low: 0, high: 0 }, b: because, c: because });
  expect(times([waiting("a", 1, 5, { is_held: true }), waiting("b", 2, 5)])).toEqual({ a: { unknown: "" }, b: { unknown: "a waits for memory" } });
  expect(times([running(0, null), waiting("a", 1, 5)])["a"]).toHaveProperty("unknown", "how long run-0 takes has not been estimated yet");
});

it("says it in words", () => {
  const now = new Date(2026, 0, 1, 12, 0).getTime();
  expect(startWords({ low: 600, high: 600 }, now)).toMatch(/^Starts around .*10.*\.$/);
  expect(startWords({ low: 600, high: 1200 }, now)).toMatch(/^Starts between .*10.* and .*20.*\.$/);
  expect(startWords({ low: 0, high: 0 }, now)).toBe("");
  expect(startWords({ unknown: "why" }, now)).toBe("Start time unknown: why.");
});
