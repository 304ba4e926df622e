import { describe, expect, it, vi } from "vitest";
import type { CaptionEdit, CaptionRow } from "../generated/api";
import { ApiError } from "./api";
import { CaptionSaver } from "./captionSaver";

const row = ({ file, text }: CaptionEdit): CaptionRow => ({ file, text, tag: `tag of ${text}` });

function conflict(edit: CaptionEdit): ApiError {
  const found = { file: edit.file, name: "a.png", mine: edit.text, theirs: "theirs", tag: "new" };
  return new ApiError(409, [], { problems: [], conflicts: [found] });
}

describe("captions as they are typed", () => {
  it("are sent once nothing is typed for a while, with the tag that the edit began with", async () => {
    vi.useFakeTimers();
    const send = vi.fn(async (edit: CaptionEdit) => row(edit));
    const saver = new CaptionSaver(send, () => {}, 100);
    for (const text of ["a", "a c", "a cat"]) saver.edit("f", "first", text);
    expect(saver.isUnsaved).toBe(true);
    await vi.advanceTimersByTimeAsync(100);
    expect(send.mock.calls).toEqual([[{ file: "f", text: "a cat", if_match: "first" }]]);
    expect(saver.draft("f")).toMatchObject({ state: "saved", tag: "tag of a cat" });
    expect(saver.isUnsaved).toBe(false);
    vi.useRealTimers();
  });

  it("typed while they are sent follow with the new tag", async () => {
    const sent: CaptionEdit[] = [];
    const saver = new CaptionSaver(async (edit) => {
      sent.push(edit);
      if (sent.length === 1) saver.edit("f", "first", "ab");
      return row(edit);
    }, () => {});
    saver.edit("f", "first", "a");
    await saver.flush("f");
    expect(sent.map(({ text, if_match }) => [text, if_match])).toEqual([["a", "first"], ["ab", "tag of a"]]);
  });

  it("keep both texts when somebody else was quicker, until one is chosen", async () => {
    const saved: CaptionRow[] = [];
    const send = async (edit: CaptionEdit) => {
      if (edit.if_match !== "new") throw conflict(edit);
      return row(edit);
    };
    const saver = new CaptionSaver(send, (each) => saved.push(each));
    saver.edit("f", "old", "mine");
    await saver.flush("f");
    expect(saver.draft("f")).toMatchObject({ state: "conflict", text: "mine", theirs: { theirs: "theirs" } });
    await saver.settle("f", "mine");
    expect(saver.draft("f")).toMatchObject({ state: "saved", text: "mine" });
    saver.edit("g", "old", "mine");
    await saver.flush("g");
    await saver.settle("g", "theirs");
    expect(saved.map(({ text }) => text)).toEqual(["mine", "theirs"]);
  });

  it("stay when they could not be sent, and can be sent again", async () => {
    let isBroken = true;
    const saver = new CaptionSaver(async (edit) => {
      if (isBroken) throw new Error("no disk");
      return row(edit);
    }, () => {});
    saver.edit("f", "t", "x");
    await saver.flush("f");
    expect(saver.draft("f")).toMatchObject({ state: "failed", why: "no disk", text: "x" });
    isBroken = false;
    await saver.flush("f");
    expect(saver.draft("f")?.state).toBe("saved");
  });
});
