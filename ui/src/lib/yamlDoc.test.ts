import { readFileSync, readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { applyEdits, applyFix, deleteIn, jobPath, parseJob, rangeOf, setIn, valueAt } from "./yamlDoc";

const EXAMPLES = new URL("../../../config/examples/", import.meta.url);
const TEXT = `# my job
config:
  name: one     # the name
  process:
    - type: sd_trainer
      model:
        arch: tiny   # which
      datasets:
        - folder_path: images    # mine
          resolution: [512, 768]
        - folder_path: more
      train:
        steps: 100      # short
        lr: 1e-4
      # said of the samples
      sample:
        samples:
          - prompt: a cat
            seed: 3
          - prompt: a dog
`;

/** How many lines are not in both texts. */
function changedLines(a: string, b: string): number {
  const [left, right] = [a.split("\n"), b.split("\n")];
  return right.filter((line) => !left.includes(line)).length;
}

const at = (text: string, key: string) => valueAt(parseJob(text).value, jobPath(key));

describe("setIn", () => {
  it("changes one value and nothing else on its line", () => {
    expect(setIn(TEXT, jobPath("train.steps"), 200)).toBe(TEXT.replace("100 ", "200 "));
    expect(setIn(TEXT, jobPath("datasets.0.resolution"), [1024])).toBe(TEXT.replace("[512, 768]", "[1024]"));
  });

  it("adds a key at the end of its section with the section's indent", () => {
    const text = setIn(TEXT, jobPath("train.batch_size"), 4);
    expect(text).toBe(TEXT.replace("lr: 1e-4\n", "lr: 1e-4\n        batch_size: 4\n"));
  });

  it("adds a section that is not there yet", () => {
    const text = setIn(TEXT, jobPath("save.save_every"), 50);
    expect(at(text, "save.save_every")).toBe(50);
    expect(text.startsWith(TEXT.trimEnd())).toBe(true);
  });

  it("fills a section that has a name only", () => {
    const text = setIn(TEXT + "      network:\n", jobPath("network.linear"), 8);
    expect(text.endsWith("      network:\n        linear: 8\n")).toBe(true);
  });

  it("appends a list entry", () => {
    const text = setIn(TEXT, jobPath("datasets.2.folder_path"), "third");
    expect(text).toBe(TEXT.replace("- folder_path: more\n", "- folder_path: more\n        - folder_path: third\n"));
  });

  it("quotes what another reader would take for something else", () => {
    for (const word of ["yes", "on", "1.0", "null", "a: b", "- x", "#1", "", "[trigger]"])
      expect(at(setIn(TEXT, jobPath("trigger_word"), word), "trigger_word")).toBe(word);
  });

  it("adds to a section that is written on one line", () => {
    const text = setIn(TEXT + "      network: {}\n", jobPath("network.linear"), 8);
    expect(text.endsWith("      network: {linear: 8}\n")).toBe(true);
    expect(setIn(text, jobPath("network.type"), "lora").endsWith("{linear: 8, type: lora}\n")).toBe(true);
  });

  it("starts a document from nothing", () => {
    expect(at(setIn("", jobPath("train.lr"), 0.1), "train.lr")).toBe(0.1);
  });

  it("leaves text alone that is not YAML", () => {
    expect(setIn("a: [", jobPath("train.lr"), 1)).toBe("a: [");
  });
});

describe("deleteIn", () => {
  it("takes the line of the key and leaves the others", () => {
    expect(deleteIn(TEXT, jobPath("train.lr"))).toBe(TEXT.replace("        lr: 1e-4\n", ""));
  });

  it("takes a section that it leaves empty", () => {
    const text = deleteIn(TEXT, jobPath("model.arch"));
    expect(at(text, "model")).toBeUndefined();
    expect(text).toContain("# said of the samples");
  });

  it("keeps the dash of a list entry whose first key goes", () => {
    const text = deleteIn(TEXT, jobPath("sample.samples.0.prompt"));
    expect(at(text, "sample.samples")).toEqual([{ seed: 3 }, { prompt: "a dog" }]);
  });

  it("takes a whole list entry", () => {
    expect(at(deleteIn(TEXT, jobPath("datasets.0")), "datasets")).toEqual([{ folder_path: "more" }]);
  });
});

describe("every example job", () => {
  const files = readdirSync(EXAMPLES).filter((name) => name.endsWith(".yaml"));
  it.each(files)("%s changes by one line and keeps its comments", (name) => {
    const text = readFileSync(new URL(name, EXAMPLES), "utf8");
    const section = at(text, "train") === undefined ? "generate" : "train"; // a job that draws trains nothing
    const changed = setIn(text, jobPath(`${section}.steps`), 12345);
    expect(at(changed, `${section}.steps`)).toBe(12345);
    expect(changedLines(text, changed)).toBe(1);
    const more = setIn(text, jobPath(`${section}.a_new_key`), true);
    expect(changedLines(text, more)).toBe(1);
    expect(deleteIn(more, jobPath(`${section}.a_new_key`))).toBe(text);
  });
});

it("renames a key in its place, with its value and the comments around it", () => {
  expect(changedLines(TEXT, applyFix(TEXT, { edits: {}, renames: { "train.lr": "lrr" } }))).toBe(1);
  expect(at(applyFix(TEXT, { edits: {}, renames: { train: "trian" } }), "trian.lr")).toBe(at(TEXT, "train.lr"));
  expect(applyFix(TEXT, { edits: {}, renames: { "train.missing": "x" } })).toBe(TEXT);
});

it("applies the edits of a fix, null takes away", () => {
  const text = applyEdits(TEXT, { "model.quantize": true, "train.lr": null });
  expect(at(text, "model.quantize")).toBe(true);
  expect(at(text, "train.lr")).toBeUndefined();
});

it("finds where a key stands, or the section around it", () => {
  const [from, to] = rangeOf(TEXT, jobPath("train.lr"))!;
  expect(TEXT.slice(from, to)).toBe("lr: 1e-4");
  const [near] = rangeOf(TEXT, jobPath("train.missing"))!;
  expect(TEXT.slice(near).startsWith("train:")).toBe(true);
});

it("says where the text is not YAML", () => {
  const { value, problems } = parseJob("a: 1\nb: [\n");
  expect(value).toBeUndefined();
  expect(problems[0]!.line).toBeGreaterThan(1);
});
