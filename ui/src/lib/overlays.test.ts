import { expect, it } from "vitest";
import type { JobRow } from "../generated/api";
import { progress, row } from "../test/fixtures";
import { plotData } from "../app/jobs/job/curves/plot";
import { chosenIn, comparable, ghostOf, lookOf, overlaysOf } from "./overlays";

const run = (id: string, created: number, given: Partial<JobRow> = {}, recent_loss: number | null = null) =>
  row({ id, created, state: "done", arch: "toy", dataset: "cats", progress: progress({ step: 9, recent_loss }), ...given });
const job = run("this", 50);
const jobs = [
  job,
  run("old", 10, {}, 0.2),
  run("before", 40, {}, 0.4),
  run("later", 60, {}, 0.3),
  run("failed", 45, { state: "failed", dataset: "dogs" }, 0.1),
  run("other", 90, { arch: "big", dataset: "dogs" }, 0.01),
  row({ id: "draft", created: 99 }),
];

it("offers runs of the same model and images first, and none that has taken no step", () => {
  expect(comparable(jobs, job).map(({ id }) => id)).toEqual(["later", "before", "old", "failed", "other"]);
});

it("takes the run before, or the finished one with the lowest loss, of the same model and images", () => {
  expect(ghostOf("previous", jobs, job)?.id).toBe("before");
  expect(ghostOf("best", jobs, job)?.id).toBe("old");
  expect(ghostOf("none", jobs, job)).toBeUndefined();
  expect(ghostOf("best", [job], job)).toBeUndefined();
});

it("passes over ids of a link that are no run, and those that are too many", () => {
  expect(chosenIn("old,old,gone,this,draft,later", jobs, job)).toEqual(["old", "later"]);
  expect(chosenIn("old,before,later,failed,other", jobs, job)).toEqual(["old", "before", "later"]);
  expect(chosenIn(null, jobs, job)).toEqual([]);
});

const series = (key: string, steps: number[], mean: number[]) => ({ key, steps, mean, low: mean, high: mean });
const overlay = (id: string, steps: number[], mean: number[]) => ({ id, name: id, isGhost: false, place: 0, series: [series("loss", steps, mean)] });

it("puts another run behind the one curve, each value at its own step", () => {
  const data = plotData([series("loss", [1, 3], [5, 6])], [overlay("old", [2, 3], [7, 8])], 0);
  expect(data).toEqual([[1, 2, 3], [5, null, 6], [5, null, 6], [5, null, 6], [5, null, 6], [null, 7, 8]]);
});

it("shows other runs only in a chart of one curve that they have too", () => {
  const others = [overlay("old", [1], [1])];
  expect(overlaysOf({ keys: ["loss"] }, others)).toHaveLength(1);
  expect(overlaysOf({ keys: ["lr"] }, others)).toEqual([]);
  expect(overlaysOf({ keys: ["loss", "lr"] }, others)).toEqual([]);
});

it("gives each line dashes of its own", () => {
  const looks = [0, 1, 2].map((place) => lookOf({ isGhost: false, place })).concat(lookOf({ isGhost: true, place: 3 }));
  expect(new Set(looks.map(({ dash }) => dash.join())).size).toBe(4);
});
