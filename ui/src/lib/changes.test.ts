import { expect, it } from "vitest";
import { model, SCHEMA } from "../test/fixtures";
import { allReverted, changesBetween, reverted } from "./changes";
import { jobPath, parseJob, setIn, deleteIn, valueAt } from "./yamlDoc";

const BEFORE = `job: extension
config:
  name: first
  process:
    - type: sd_trainer
      model: {arch: toy}
      network:
        type: lora
        linear: 16
      datasets:
        - folder_path: cats
          resolution: 512
      train:
        lr: 1e-4 # mine
      sample:
        prompts: [a, b]
`;
const toy = model({ defaults: { train: { steps: 500 } } });
const before = parseJob(BEFORE).value;
const changes = (text: string) => changesBetween(before, parseJob(text).value, SCHEMA, [toy]);

it("names each setting that has another value, and says what it was", () => {
  const text = setIn(setIn(BEFORE, jobPath("train.lr"), 5e-5), jobPath("save.save_every"), 100).replace("name: first", "name: second");
  expect(changes(text).map(({ label, before: was, now }) => [label, was, now])).toEqual([
    ["Learning rate", "0.0001", "0.00005"],
    ["Save every", "250", "100"],
  ]);
  expect(changes(text).map(({ isHarmless }) => isHarmless)).toEqual([false, true]);
});

it("takes a default that is written out for the same value, be it the schema's or the model's", () => {
  expect(changes(setIn(BEFORE, jobPath("train.steps"), 500))).toEqual([]);
  expect(changes(setIn(BEFORE, jobPath("network.linear_alpha"), 16))).toEqual([]);
  expect(changes(deleteIn(BEFORE, jobPath("network.type")))).toEqual([]);
});

it("goes back one setting at a time and keeps comments", () => {
  const text = setIn(setIn(BEFORE, jobPath("train.lr"), 1), jobPath("train.steps"), 9);
  const once = reverted(text, before, "train.lr");
  expect(once).toContain("# mine");
  expect(changes(once).map(({ path }) => path)).toEqual(["train.steps"]);
  expect(reverted(once, before, "train.steps")).toBe(BEFORE.replace("1e-4", "0.0001"));
});

it("takes a whole entry of a list that one side has not for one change", () => {
  const more = setIn(setIn(BEFORE, jobPath("datasets.1"), { folder_path: "dogs", resolution: 768 }), jobPath("datasets.2"), { folder_path: "owls" });
  expect(changes(more).map(({ label, now }) => [label, now])).toEqual([["Dataset 2", "dogs"], ["Dataset 3", "owls"]]);
  expect(allReverted(more, before, SCHEMA, [toy])).toBe(BEFORE);
  const back = allReverted(BEFORE, parseJob(more).value, SCHEMA, [toy]);
  expect(valueAt(parseJob(back).value, jobPath("datasets"))).toEqual(valueAt(parseJob(more).value, jobPath("datasets")));
});

it("goes back to a job of another shape", () => {
  const other = `config: {process: [{type: sd_trainer, model: {arch: other}, train: {full_finetune: true}, sample: {samples: [{prompt: x}]}}]}\n`;
  const back = allReverted(other, before, SCHEMA, [toy]);
  expect(changes(back)).toEqual([]);
});
