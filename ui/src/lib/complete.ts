/** What may stand at a place of a job's YAML: keys of the section around it, or values of the key on the line. */
import type { FormField, FormSchema, ModelInfo } from "../generated/api";
import { shownValue } from "./form";

export interface Place {
  /** dotted section of the process, lists as "datasets[]"; null outside the process */
  section: string | null;
  /** the key whose value is being written, or null where a key is */
  key: string | null;
}

export interface Option {
  label: string;
  detail: string;
  info: string;
}

/** Where in the document a line is, by the indent of the lines above it: works on text that is not YAML yet. */
export function placeAt(lines: readonly string[], number: number): Place {
  const line = lines[number]!;
  const own = /^(\s*(?:- )?)([\w-]+):\s/.exec(`${line} `);
  let indent = /^\s*(?:- )?/.exec(line)![0].length;
  const path: string[] = [];
  let startsEntry = /^\s*- /.test(line);
  for (let above = number - 1; above >= 0 && indent > 0; above -= 1) {
    const found = /^(\s*)(- )?([\w-]+):/.exec(lines[above]!);
    if (!found) continue;
    const dash = found[1]!.length;
    const column = dash + (found[2]?.length ?? 0);
    if (column < indent && !(startsEntry && found[2] && column >= indent)) {
      path.unshift(startsEntry ? `${found[3]}[]` : found[3]!);
      indent = column;
      startsEntry = !!found[2];
    } else if (column === indent && found[2] && !startsEntry) {
      startsEntry = true;
    }
    if (startsEntry) indent = Math.min(indent, dash + 2);
  }
  const dotted = path.join(".");
  const inside = /^config\.process\[\]\.?/.exec(dotted);
  return { section: inside ? dotted.slice(inside[0].length) : null, key: own ? own[2]! : null };
}

export function optionsAt(place: Place, schema: FormSchema, models: readonly ModelInfo[]): Option[] {
  if (place.section === null) return [];
  const section = schema.sections.find(({ path }) => path === place.section);
  if (place.key === null) {
    const below = schema.sections
      .filter(({ path }) => parentOf(path) === place.section)
      .map(({ path, help }) => ({ label: keyOf(path), detail: "section", info: help }));
    return [...(section?.fields ?? []).map(keyOption), ...below];
  }
  const field = section?.fields.find(({ key }) => key === place.key);
  return field ? valueOptions(field, models) : [];
}

function keyOption(field: FormField): Option {
  const fallback = shownValue(field.default);
  return { label: field.key, detail: fallback || field.kind, info: field.help ?? "" };
}

function valueOptions(field: FormField, models: readonly ModelInfo[]): Option[] {
  if (field.widget === "arch") return models.map((model) => ({ label: model.arch, detail: model.label, info: model.summary }));
  if (field.kind === "bool") return ["true", "false"].map((label) => ({ label, detail: "", info: field.help ?? "" }));
  if (field.widget === "model") {
    const sources = [...new Set(models.map((model) => model.source).filter(Boolean))];
    return sources.map((label) => ({ label, detail: "", info: "" }));
  }
  return (field.choices ?? []).map((choice) => ({ label: choice.value, detail: "", info: choice.help }));
}

const parentOf = (path: string) => (path.includes(".") ? path.slice(0, path.lastIndexOf(".")) : path ? "" : null);
const keyOf = (path: string) => path.slice(path.lastIndexOf(".") + 1).replace(/\[\]$/, "");
