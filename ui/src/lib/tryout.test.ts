import { expect, it } from "vitest";
import { columnName, fieldOf, formOf, readForm } from "./tryout";

const start = { name: "cats_tryout", prompts: ["a", "b"], width: 32, height: 48, sample_steps: 4, guidance_scale: 3.5, seed: -1 };

it("makes a request of what is typed, and counts the pictures", () => {
  const form = { ...formOf(start, ["x.safetensors", "y.safetensors"]), strengths: "0.5, 1 0", seeds: "1 2\n2" };
  const { request, problems, numPictures, words } = readForm(form, "run=0123456789abcdef");
  expect(problems).toEqual([]);
  expect(request).toMatchObject({ run: "0123456789abcdef", arch: null, strengths: [0.5, 1, 0], seeds: [1, 2], height: 48 });
  expect(numPictures).toBe(2 * 2 * (1 + 2 * 2));
  expect(words).toBe("2 prompts × 2 seeds × (2 LoRAs × 2 strengths + 1 without)");
});

it("names what is no number with its field", () => {
  const { problems } = readForm({ ...formOf(start, []), strengths: "1,x", seeds: "1.5", width: "", steps: "3 4" }, "arch=toy");
  expect(problems.map(({ where, what }) => [where, what])).toEqual([
    ["strengths", "“x” is not a number."],
    ["seeds", "“1.5” is not a whole number."],
    ["width", "Give one number."],
    ["sample_steps", "Give one number."],
  ]);
});

it("knows the field of a problem of the check", () => {
  expect(["generate.prompts.0.width", "checkpoints.1", "config.name", "strengths.0", "memory"].map(fieldOf)).toEqual([
    "prompts",
    "loras",
    "name",
    "strengths",
    undefined,
  ]);
  expect(columnName({ name: "style", strength: 0.5 })).toBe("style × 0.5");
});
