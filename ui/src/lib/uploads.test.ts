import { describe, expect, it } from "vitest";
import { extensionOf, inOrder, refusalOf, sendAll, summary, type Upload } from "./uploads";

const dataset = {
  limits: { picture_bytes: 1000, caption_bytes: 10, zip_bytes: 5000, num_files: 100 },
  extensions: [".jpg", ".png", ".txt"],
};
const file = (name: string, size = 5) => new File([new Uint8Array(size)], name);

describe("files on their way to a dataset", () => {
  it("are looked at before they are sent", () => {
    expect(refusalOf(file("a.JPG"), dataset)).toBeUndefined();
    expect(refusalOf(file("a.zip", 4000), dataset)).toBeUndefined();
    expect(refusalOf(file("a.gif"), dataset)).toMatch(/Only pictures/);
    expect(refusalOf(file("a.txt", 11), dataset)).toMatch(/larger than/);
    expect([extensionOf("x.tar.PNG"), extensionOf(".png"), extensionOf("x")]).toEqual([".png", "", ""]);
  });

  it("go pictures first", () => {
    expect(inOrder([file("a.txt"), file("a.png"), file("b.txt"), file("b.png")]).map(({ name }) => name)).toEqual([
      "a.png",
      "b.png",
      "a.txt",
      "b.txt",
    ]);
  });

  it("do not wait for one that is refused", async () => {
    let last: Upload[] = [];
    let atOnce = 0;
    let most = 0;
    const send = async ({ name }: File) => {
      most = Math.max(most, (atOnce += 1));
      await Promise.resolve();
      atOnce -= 1;
      if (name === "2.png") throw new Error("taken");
    };
    const files = Array.from({ length: 12 }, (_, index) => file(`${index}.png`));
    await sendAll([...files, file("x.gif")], dataset, send, (list) => (last = list), new AbortController().signal);
    expect(summary(last)).toMatchObject({ numDone: 11, numFailed: 2, isOver: true, bytes: 65, bytesDone: 65 });
    expect(last.find(({ name }) => name === "2.png")).toMatchObject({ state: "failed", why: "taken" });
    expect(most).toBe(4);
  });

  it("that were not begun when it is cancelled are told as cancelled", async () => {
    let last: Upload[] = [];
    const stop = new AbortController();
    const send = async () => stop.abort();
    await sendAll(Array.from({ length: 9 }, (_, index) => file(`${index}.png`)), dataset, send, (list) => (last = list), stop.signal);
    expect(last.filter(({ why }) => why === "Cancelled.").length).toBeGreaterThanOrEqual(5);
    expect(summary(last).isOver).toBe(true);
  });
});
