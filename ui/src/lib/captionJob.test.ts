import { expect, it } from "vitest";
import { fieldOf, requestOf } from "./captionJob";

const form = { model: " models/vlm ", instruction: " What is it? ", prefix: "zrb, ", pictures: "all" as const };

it("makes a request as soon as a model is named; the space behind a prefix stays", () => {
  expect(requestOf("0123456789abcdef", form)).toEqual({ dataset: "0123456789abcdef", model: "models/vlm", instruction: "What is it?", prefix: "zrb, ", has_all: true });
  expect(requestOf("0123456789abcdef", { ...form, model: " " })).toBeNull();
});

it("knows the field of a problem", () => {
  expect(fieldOf("caption.model_name_or_path")).toBe("model");
  expect(fieldOf("training_folder")).toBeUndefined();
});
