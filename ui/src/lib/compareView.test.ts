import { expect, it } from "vitest";
import { SampleMatrix } from "./matrix";
import { comparePath } from "./jobsList";
import { promptRows, searchOf, singleCharts, viewOf } from "./compareView";

const [a, b] = ["a", "b"].map((letter) => letter.repeat(16)) as [string, string];

it("reads back the view that it has put into an address", () => {
  const view = { runs: [a, b], step: 40, keys: ["loss", "lr"], smoothing: 0.5, isLog: true };
  expect(viewOf(searchOf(view))).toEqual(view);
  expect(viewOf(new URLSearchParams(comparePath([a, b]).split("?")[1]))).toEqual({
    runs: [a, b],
    step: null,
    keys: null,
    smoothing: 0.9,
    isLog: false,
  });
});

it("passes over what is wrong in an address", () => {
  const search = new URLSearchParams({ runs: `${a},${a},../x,${b}`, step: "-3", smoothing: "7" });
  expect(viewOf(search)).toEqual({ runs: [a, b], step: null, keys: null, smoothing: 0.9, isLog: false });
});

it("gives each curve a chart of its own", () => {
  const charts = singleCharts(["memory/ram_bytes", "loss", "memory/gpu_bytes", "validation/held_out", "validation/gap", "loss"]);
  expect(charts.map(({ title }) => title)).toEqual([
    "Loss",
    "Validation: held out",
    "Validation: gap",
    "Memory: RAM",
    "Memory: GPU",
  ]);
  expect(charts.every(({ keys }) => keys.length === 1)).toBe(true);
});

const matrix = (...prompts: string[]) =>
  new SampleMatrix({
    steps: [0],
    prompts,
    samples: prompts.map((prompt, index) => ({
      file: `${index}`, step: 0, index, prompt, seed: 1, width: 1, height: 1, time: 0, is_starred: false,
    })),
  });

it("puts the same prompt of several runs into one row, wherever it stands in each", () => {
  expect(promptRows([matrix("cat", "dog", "cat"), undefined, matrix("dog", "cat")])).toEqual([
    { prompt: "cat", indices: [0, undefined, 1] },
    { prompt: "dog", indices: [1, undefined, 0] },
    { prompt: "cat", indices: [2, undefined, undefined] },
  ]);
});
