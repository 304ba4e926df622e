/** How the settings of a job differ from those that it has come from, and the way back for each of them. */
import type { FormSchema, ModelInfo } from "../generated/api";
import { fieldAt, fieldView, labelOf, shownValue } from "./form";
import { deleteIn, jobPath, parseJob, setIn, valueAt } from "./yamlDoc";

export interface SettingChange {
  path: string;
  label: string;
  before: string;
  now: string;
  /** a resumed run may change it */
  isHarmless: boolean;
}

const NONE = "not set";

/** Settings whose value is another one. A default that is written out, or left out, is the same value. */
export function changesBetween(before: unknown, now: unknown, schema: FormSchema, models: readonly ModelInfo[]): SettingChange[] {
  const [old, fresh] = [processOf(before), processOf(now)];
  return [...new Set([...leaves(old, fresh), ...leaves(fresh, old)])].flatMap((path) => {
    const [was, is] = [shownAt(before, path, schema, models), shownAt(now, path, schema, models)];
    if (was === is) return [];
    const isHarmless = fieldAt(schema, path)?.is_harmless ?? false;
    return [{ path, label: nameOf(path, schema), before: was || NONE, now: is || NONE, isHarmless }];
  });
}

/** The text with one setting as it was. */
export function reverted(text: string, before: unknown, path: string): string {
  const value = valueAt(before, jobPath(path));
  if (value === undefined) return deleteIn(text, jobPath(path));
  const now = parseJob(text).value;
  const parts = path.split(".");
  const list = valueAt(now, jobPath(parts.slice(0, -1).join(".")));
  // a list has no holes: an entry that is put back behind its end becomes the last one
  const isBehind = /^\d+$/.test(parts.at(-1)!) && Number(parts.at(-1)) > (Array.isArray(list) ? list.length : 0);
  if (isBehind) parts[parts.length - 1] = String(Array.isArray(list) ? list.length : 0);
  return setIn(text, jobPath(parts.join(".")), value);
}

/** The text with all settings as they were. Entries of lists go from their end, and come back from their beginning. */
export function allReverted(text: string, before: unknown, schema: FormSchema, models: readonly ModelInfo[]): string {
  let now = text;
  for (let turn = 0; turn < 500; turn += 1) {
    const changes = changesBetween(before, parseJob(now).value, schema, models);
    const next = changes.find(({ path }) => valueAt(before, jobPath(path)) !== undefined) ?? changes.at(-1);
    const text = next ? reverted(now, before, next.path) : now;
    if (text === now) break;
    now = text;
  }
  return now;
}

const processOf = (job: unknown) => valueAt(job, ["config", "process", 0]);

/** Dotted paths of all values. An entry of a list that the other side does not have is one value. */
function leaves(value: unknown, other: unknown, path = ""): string[] {
  const isEntries = Array.isArray(value) && value.some((entry) => isMapping(entry));
  if (!isEntries && !isMapping(value)) return path ? [path] : [];
  return Object.entries(value as object).flatMap(([key, inner]) => {
    const here = path ? `${path}.${key}` : key;
    const there = valueAt(other, [key]);
    return isEntries && there === undefined ? [here] : leaves(inner, there, here);
  });
}

const isMapping = (value: unknown): value is Record<string, unknown> => value !== null && typeof value === "object" && !Array.isArray(value);

function shownAt(job: unknown, path: string, schema: FormSchema, models: readonly ModelInfo[]): string {
  const field = fieldAt(schema, path);
  if (!field) return wordsOf(valueAt(job, jobPath(path)));
  const model = models.find(({ arch }) => arch === valueAt(job, jobPath("model.arch")));
  const view = fieldView(field, path, job, model);
  return wordsOf(view.isSet ? view.value : view.fallback);
}

/** Of an entry of a list, what stands in it first: a folder, a prompt. */
function wordsOf(value: unknown): string {
  return shownValue(isMapping(value) ? Object.values(value)[0] : value);
}

function nameOf(path: string, schema: FormSchema): string {
  const entry = /^(.*)\.(\d+)$/.exec(path);
  if (!entry) return labelOf(schema, path);
  const title = schema.sections.find((section) => section.path === `${entry[1]}[]`)?.title.replace(/s$/, "");
  return title ? `${title} ${Number(entry[2]) + 1}` : path;
}
