import { expect, it } from "vitest";
import { sample } from "../test/fixtures";
import { nearestStep, SampleMatrix } from "./matrix";

const matrix = new SampleMatrix({
  steps: [0, 10, 20],
  prompts: ["first", "second"],
  samples: [sample(20, 0), sample(0, 0), sample(0, 1), sample(10, 0, { time: 1 }), sample(10, 0, { file: "newer", time: 2 })],
});

it("keeps each picture at its step and prompt when others are missing", () => {
  expect(matrix.steps).toEqual([0, 10, 20]);
  expect(matrix.columns.map((column) => column.prompt)).toEqual(["first", "second"]);
  expect(matrix.at(20, 0)?.file).toBe("file-20-0");
  expect(matrix.at(20, 1)).toBeUndefined();
});

it("shows the newest earlier picture where one is missing", () => {
  expect(matrix.upTo(20, 1)?.step).toBe(0);
  expect(matrix.upTo(15, 0)?.step).toBe(10);
  expect(matrix.baseline(1)?.step).toBe(0);
});

it("takes the newer of two pictures of one place", () => {
  expect(matrix.at(10, 0)?.file).toBe("newer");
  expect(matrix.count).toBe(4);
});

it("gives every picture of a prompt in the order of steps", () => {
  expect(matrix.row(0).map((each) => each.file)).toEqual(["file-0-0", "newer", "file-20-0"]);
  expect(matrix.row(1).map((each) => each.step)).toEqual([0]);
});

it("finds the nearest step", () => {
  expect(nearestStep([0, 10, 20], 14)).toBe(10);
  expect(nearestStep([], 14)).toBeUndefined();
});
