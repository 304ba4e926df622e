import { expect, it } from "vitest";
import { wordDiff, type Piece } from "./wordDiff";

const marked = (pieces: Piece[]) => pieces.map(({ kind, text }) => (kind === "same" ? text : kind === "del" ? `[-${text}-]` : `{+${text}+}`)).join("");

it("marks words, not letters, and leaves the rest as it is", () => {
  expect(marked(wordDiff("a red cat, sitting", "a black cat, sitting outside"))).toBe("a [-red-]{+black+} cat, sitting{+ outside+}");
  expect(marked(wordDiff("", "a cat"))).toBe("{+a cat+}");
  expect(marked(wordDiff("a cat", ""))).toBe("[-a cat-]");
  expect(wordDiff("a cat", "a cat")).toEqual([{ kind: "same", text: "a cat" }]);
  expect(wordDiff("", "")).toEqual([]);
});

it("joins neighbours that were changed, with the spaces between them", () => {
  expect(marked(wordDiff("zrb, old words here", "zrb, some other text here"))).toBe("zrb, [-old words-]{+some other text+} here");
});

it("gives both texts back, also for captions that are too long to be compared", () => {
  const words = (number: number, step: number) => Array.from({ length: number }, (_, place) => `w${place * step}`).join(" ");
  for (const [before, after] of [["a b c d", "b x d a"], [words(40, 3), words(60, 2)], [words(1500, 1), `x ${words(1500, 7)} y`]] as const) {
    const pieces = wordDiff(before, after);
    const without = (kind: Piece["kind"]) => pieces.filter((piece) => piece.kind !== kind).map(({ text }) => text).join("");
    expect(without("ins")).toBe(before);
    expect(without("del")).toBe(after);
  }
});
