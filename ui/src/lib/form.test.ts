import { describe, expect, it } from "vitest";
import { field, model, SCHEMA } from "../test/fixtures";
import { optionsAt, placeAt } from "./complete";
import { newJob, targetsOf, withModel } from "./draft";
import { fieldAt, fieldView, labelOf, parseInput, problemsAt, sectionsOf, simpleForm } from "./form";
import { promptsOf, withPrompts } from "./prompts";
import { parseJob, setIn, jobPath, valueAt } from "./yamlDoc";

const toy = model({ defaults: { train: { lr: 0.5 } } });
const text = newJob(SCHEMA, toy, "here");
const job = parseJob(text).value;

it("asks at most 15 things in the short form, the model first", () => {
  const groups = simpleForm(SCHEMA, job, toy);
  const fields = groups.flatMap((group) => group.fields);
  expect(fields.length).toBeLessThanOrEqual(15);
  expect(fields[0]!.field.widget).toBe("arch");
  expect(fields.some((view) => view.path === "config.name")).toBe(true);
});

it("begins a new job with the model and its source", () => {
  expect(valueAt(job, jobPath("model"))).toEqual({ arch: "toy", name_or_path: "toys/toy" });
  expect(valueAt(job, jobPath("training_folder"))).toBe("here");
});

it("changes the weights with the model unless they are someone's own", () => {
  const other = model({ arch: "other", source: "toys/other" });
  expect(withModel(text, job, toy, other)).toContain("toys/other");
  const own = setIn(text, jobPath("model.name_or_path"), "/my/weights");
  expect(withModel(own, parseJob(own).value, toy, other)).toContain("/my/weights");
});

describe("fieldView", () => {
  it("takes the job's value before the model's before the default", () => {
    const lr = fieldAt(SCHEMA, "train.lr")!;
    expect(fieldView(lr, "train.lr", job, toy)).toMatchObject({ isSet: false, fallback: 0.5, origin: "model" });
    const set = parseJob(setIn(text, jobPath("train.lr"), 2)).value;
    expect(fieldView(lr, "train.lr", set, toy)).toMatchObject({ isSet: true, value: 2, origin: "job" });
  });

  it("says why a model has no use for a key", () => {
    const view = fieldView(field({ needs: "true_cfg" }), "train.key", job, toy);
    expect(view.hidden).toBe("Toy does not support true cfg");
    expect(fieldView(field({ needs: "true_cfg" }), "train.key", job, model({ capabilities: ["true_cfg"] })).hidden).toBeNull();
  });
});

it("shows list sections entry by entry", () => {
  const two = parseJob(setIn(text, jobPath("datasets.1"), { folder_path: "b" })).value;
  const titles = sectionsOf(SCHEMA, two, toy).map((view) => view.path);
  expect(titles.filter((path) => /^datasets\.\d$/.test(path))).toEqual(["datasets.0", "datasets.1"]);
});

describe("parseInput", () => {
  const number = field({ kind: "float", minimum: 0, is_minimum_excluded: true, maximum: 1 });
  it.each([
    ["1e-4", { value: 1e-4 }],
    ["", { value: undefined }],
    ["0", { problem: "Must be greater than 0" }],
    ["2", { problem: "Must be at most 1" }],
    ["x", { problem: "“x” is not a number" }],
  ])("reads %j as a number", (typed, expected) => expect(parseInput(number, typed)).toEqual(expected));

  it("reads lists", () => {
    const list = field({ kind: "list", item: "int" });
    expect(parseInput(list, "[512, 768]")).toEqual({ value: [512, 768] });
    expect(parseInput(list, "512, x")).toHaveProperty("problem");
  });
});

it("knows what a key is called, however the place of a list entry is written", () => {
  for (const path of ["datasets.1.folder_path", "datasets[1].folder_path", "datasets[].folder_path"])
    expect(labelOf(SCHEMA, path)).toBe("Image folder");
  expect(labelOf(SCHEMA, "train.unknown")).toBe("train.unknown");
});

it("finds the problems of a field whatever way its place is written", () => {
  const at = (where: string) => ({ severity: "error" as const, where, what: "", line: null, column: null, suggestion: null, fix: null });
  expect(problemsAt([at("config.process[0].datasets[0].folder_path"), at("train.lr")], "datasets.0.folder_path")).toHaveLength(1);
});

it("edits prompts in whichever list they stand", () => {
  const plain = withPrompts(text, "sample.prompts", ["a", "b"]);
  expect(promptsOf(parseJob(plain).value, "sample.prompts")).toEqual(["a", "b"]);
  const entries = setIn(text, jobPath("sample.samples"), [{ prompt: "a", seed: 3 }, { prompt: "b" }]);
  const changed = withPrompts(entries, "sample.prompts", ["new"]);
  expect(valueAt(parseJob(changed).value, jobPath("sample.samples"))).toEqual([{ prompt: "new", seed: 3 }]);
});

describe("completion", () => {
  const lines = [...text.trimEnd().split("\n"), "      train:", "        "];
  it("knows the section of a line", () => {
    expect(placeAt(lines, lines.length - 1)).toEqual({ section: "train", key: null });
    const dataset = lines.findIndex((line) => line.includes("folder_path"));
    expect(placeAt(lines, dataset)).toEqual({ section: "datasets[]", key: "folder_path" });
    expect(placeAt(lines, lines.findIndex((line) => line.includes("arch:")))).toEqual({ section: "model", key: "arch" });
    expect(placeAt(["job: x"], 0).section).toBeNull();
  });

  it("offers keys of the section and values of the key", () => {
    const keys = optionsAt({ section: "train", key: null }, SCHEMA, [toy]).map((option) => option.label);
    expect(keys).toContain("lr");
    expect(optionsAt({ section: "model", key: "arch" }, SCHEMA, [toy]).map((option) => option.label)).toEqual(["toy"]);
  });
});

it("offers to rewrite a job of another family, for the usual model first", () => {
  const models = [model({ arch: "old", family: "first" }), model({ arch: "a", family: "second" }), model({ arch: "b", family: "second" })];
  expect(targetsOf(models, "old", "b").map(({ arch }) => arch)).toEqual(["b", "a"]);
  for (const arch of ["a", "unknown", null]) expect(targetsOf(models, arch, "b")).toEqual([]);
});
