/** The sample prompts of a job, which may stand as texts in one list or as entries with more settings in another. */
import { deleteIn, jobPath, parseJob, setIn, valueAt } from "./yamlDoc";

const ENTRIES = "samples";

/** @param path of the list of texts, such as "sample.prompts"; the entries stand beside it. */
export function promptsOf(job: unknown, path: string): string[] {
  const entries = valueAt(job, jobPath(entriesOf(path)));
  if (Array.isArray(entries)) return entries.map((entry) => String(valueAt(entry, ["prompt"]) ?? ""));
  const texts = valueAt(job, jobPath(path));
  return Array.isArray(texts) ? texts.map(String) : [];
}

/** The text with these prompts. Entries keep their other settings by number; what is over goes. */
export function withPrompts(text: string, path: string, prompts: readonly string[]): string {
  const job = parseJob(text).value;
  const entries = valueAt(job, jobPath(entriesOf(path)));
  if (!Array.isArray(entries)) return withList(text, path, job, prompts);
  let now = text;
  for (let place = entries.length - 1; place >= prompts.length; place -= 1)
    now = deleteIn(now, jobPath(`${entriesOf(path)}.${place}`));
  prompts.forEach((prompt, place) => {
    const before = valueAt(entries[place], ["prompt"]);
    if (before !== prompt) now = setIn(now, jobPath(`${entriesOf(path)}.${place}.prompt`), prompt);
  });
  return now;
}

function withList(text: string, path: string, job: unknown, prompts: readonly string[]): string {
  const before = valueAt(job, jobPath(path));
  if (!prompts.length) return deleteIn(text, jobPath(path));
  if (!Array.isArray(before) || !before.length) return setIn(text, jobPath(path), prompts);
  let now = text;
  for (let place = before.length - 1; place >= prompts.length; place -= 1) now = deleteIn(now, jobPath(`${path}.${place}`));
  prompts.forEach((prompt, place) => {
    if (before[place] !== prompt) now = setIn(now, jobPath(`${path}.${place}`), prompt);
  });
  return now;
}

function entriesOf(path: string): string {
  return [...path.split(".").slice(0, -1), ENTRIES].join(".");
}
