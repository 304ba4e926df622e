/** Files on their way to a dataset: a few at a time, each with what became of it. */
import type { DatasetDetail } from "../generated/api";
import { errorText } from "./api";
import { bytes } from "./format";

export interface Upload {
  name: string;
  size: number;
  state: "waiting" | "sending" | "done" | "failed";
  why?: string;
}

export interface Uploads {
  files: Upload[];
  numDone: number;
  numFailed: number;
  bytesDone: number;
  bytes: number;
  isOver: boolean;
}

const AT_ONCE = 4;

/** What is wrong with a file before it is sent; undefined if nothing is. */
export function refusalOf(file: { name: string; size: number }, dataset: Pick<DatasetDetail, "limits" | "extensions">): string | undefined {
  const extension = extensionOf(file.name);
  if (extension === ".zip") return tooLarge(file.size, dataset.limits.zip_bytes);
  if (!dataset.extensions.includes(extension)) return `Only pictures (${dataset.extensions.join(", ")}) and zip files can be added.`;
  return tooLarge(file.size, extension === ".txt" ? dataset.limits.caption_bytes : dataset.limits.picture_bytes);
}

/** "Photo.JPG" -> ".jpg". */
export function extensionOf(name: string): string {
  const place = name.lastIndexOf(".");
  return place > 0 ? name.slice(place).toLowerCase() : "";
}

/** Pictures first, so that a page that is looked at meanwhile fills up; captions follow. */
export function inOrder<T extends { name: string }>(files: readonly T[]): T[] {
  return files.toSorted((a, b) => Number(extensionOf(a.name) === ".txt") - Number(extensionOf(b.name) === ".txt"));
}

export function summary(files: Upload[]): Uploads {
  const done = files.filter(({ state }) => state === "done");
  const failed = files.filter(({ state }) => state === "failed");
  const total = (list: Upload[]) => list.reduce((sum, { size }) => sum + size, 0);
  return {
    files,
    numDone: done.length,
    numFailed: failed.length,
    bytesDone: total(done) + total(failed),
    bytes: total(files),
    isOver: files.length > 0 && done.length + failed.length === files.length,
  };
}

/**
 * Send files, a few at a time. One that is refused does not stop the others.
 *
 * @param tell hears of each change.
 */
export async function sendAll(
  files: readonly File[],
  dataset: Pick<DatasetDetail, "limits" | "extensions">,
  send: (file: File) => Promise<unknown>,
  tell: (files: Upload[]) => void,
  signal: AbortSignal,
): Promise<void> {
  const ordered = inOrder(files);
  const list: Upload[] = ordered.map(({ name, size }) => ({ name, size, state: "waiting" }));
  const put = (place: number, change: Partial<Upload>) => {
    list[place] = { ...list[place]!, ...change };
    tell([...list]);
  };
  let next = 0;
  const work = async () => {
    while (next < ordered.length && !signal.aborted) {
      const place = next;
      next += 1;
      const why = refusalOf(ordered[place]!, dataset);
      if (why) {
        put(place, { state: "failed", why });
        continue;
      }
      put(place, { state: "sending" });
      try {
        await send(ordered[place]!);
        put(place, { state: "done" });
      } catch (error) {
        put(place, { state: "failed", why: signal.aborted ? "Cancelled." : errorText(error) });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  if (signal.aborted) tell(list.map((file) => (file.state === "waiting" ? { ...file, state: "failed", why: "Cancelled." } : file)));
}

function tooLarge(size: number, limit: number): string | undefined {
  return size > limit ? `It is larger than ${bytes(limit)}.` : undefined;
}
