/** The form of a job: which fields there are for a document and a model, what each holds, and why some are hidden. */
import type { FormField, FormSchema, FormSection, ModelInfo, Problem } from "../generated/api";
import { jobPath, valueAt } from "./yamlDoc";

export interface FieldView {
  field: FormField;
  /** below the process, with numbers for list entries: "datasets.0.folder_path" */
  path: string;
  value: unknown;
  isSet: boolean;
  /** what counts where nothing is set */
  fallback: unknown;
  origin: "job" | "model" | "default";
  /** why this model or these settings have no use for it */
  hidden: string | null;
}

export interface SectionView {
  section: FormSection;
  path: string;
  title: string;
  fields: FieldView[];
  /** of a list: this entry's number, and where the list is */
  entry: { number: number; list: string } | null;
}

/** Every section that the document has or may have, list entries one by one. */
export function sectionsOf(schema: FormSchema, job: unknown, model: ModelInfo | undefined): SectionView[] {
  return schema.sections.filter((section) => isGiven(section, schema, job)).flatMap((section) => {
    if (!section.is_list) return [viewOf(section, section.path, job, model, null)];
    const list = section.path.replace(/\[\]$/, "");
    const entries = valueAt(job, jobPath(list));
    const num = Array.isArray(entries) ? entries.length : 0;
    return Array.from({ length: num }, (_, number) =>
      viewOf(section, `${list}.${number}`, job, model, { number, list }),
    );
  });
}

/** Lists to which an entry can be added. */
export function listSections(schema: FormSchema): { section: FormSection; list: string }[] {
  return schema.sections
    .filter((section) => section.is_list)
    .map((section) => ({ section, list: section.path.replace(/\[\]$/, "") }));
}

function viewOf(
  section: FormSection,
  path: string,
  job: unknown,
  model: ModelInfo | undefined,
  entry: SectionView["entry"],
): SectionView {
  const title = entry ? `${section.title.replace(/s$/, "")} ${entry.number + 1}` : section.title;
  const fields = section.fields.map((field) => fieldView(field, path ? `${path}.${field.key}` : field.key, job, model));
  return { section, path, title, fields, entry };
}

export function fieldView(field: FormField, path: string, job: unknown, model: ModelInfo | undefined): FieldView {
  const value = valueAt(job, jobPath(path));
  const isSet = value !== undefined && value !== null;
  const fromModel = modelDefault(model, path);
  const other = field.default_key ? valueAt(job, jobPath(sibling(path, field.default_key))) : undefined;
  const fallback = fromModel ?? other ?? field.default;
  const origin = isSet ? "job" : fromModel !== undefined ? "model" : "default";
  return { field, path, value, isSet, fallback, origin, hidden: reasonHidden(field, model) };
}

/** A default of the model's card: `{train: {lr: …}}`, for each entry of a list alike. */
function modelDefault(model: ModelInfo | undefined, path: string): unknown {
  const parts = path.split(".").filter((part) => !/^\d+$/.test(part));
  return valueAt(model?.defaults, parts);
}

export function sibling(path: string, key: string): string {
  return [...path.split(".").slice(0, -1), key].join(".");
}

function reasonHidden(field: FormField, model: ModelInfo | undefined): string | null {
  if (!field.needs || !model || model.capabilities.includes(field.needs)) return null;
  return `${model.label} does not support ${field.needs.replaceAll("_", " ")}`;
}

/** Whether a section that another key decides is the one that is meant now. */
function isGiven(section: FormSection, schema: FormSchema, job: unknown): boolean {
  if (!section.given_key) return true;
  const value = valueAt(job, jobPath(section.given_key)) ?? fieldAt(schema, section.given_key)?.default;
  return (section.given_values ?? []).includes(String(value));
}

export function fieldAt(schema: FormSchema, path: string): FormField | undefined {
  const plain = path.replaceAll(/\.\d+(?=\.|$)|\[\d+\]/g, "[]");
  if (path === schema.name.path) return schema.name;
  for (const section of schema.sections) for (const field of section.fields) if (field.path === plain) return field;
  return undefined;
}

/** What a key is called; one that the schema does not know, by its own name. */
export function labelOf(schema: FormSchema, path: string): string {
  return fieldAt(schema, path)?.label ?? path;
}

export interface Group {
  title: string;
  fields: FieldView[];
}

const FIRST_ONLY = /^first_/;

/** The short form: the name and every basic key, the model first. One dataset is shown; more are in the full form. */
export function simpleForm(schema: FormSchema, job: unknown, model: ModelInfo | undefined): Group[] {
  const groups = new Map<string, Group>();
  const add = (title: string, field: FieldView) => {
    const group = groups.get(title) ?? { title, fields: [] };
    group.fields.push(field);
    groups.set(title, group);
  };
  const name = fieldView(schema.name, schema.name.path, job, model);
  for (const section of schema.sections) {
    if (FIRST_ONLY.test(section.path)) continue;
    for (const field of section.fields) {
      if (field.level !== "basic") continue;
      const view = fieldView(field, field.path.replaceAll("[]", ".0"), job, model);
      if (!view.hidden) add(section.title, view);
    }
  }
  const found = [...groups.values()];
  const isModel = (group: Group) => group.fields.some(({ field }) => field.widget === "arch");
  const first = found.filter(isModel);
  for (const group of first) group.fields.sort((a, b) => Number(b.field.widget === "arch") - Number(a.field.widget === "arch"));
  const own = found.find(({ fields }) => fields.some(({ path }) => !path.includes(".")));
  if (own) own.fields.unshift(name);
  return [...first, ...(own ? [] : [{ title: "Job", fields: [name] }]), ...found.filter((group) => !isModel(group))];
}

/** Whether every word of the search stands in the key, its label, its help or its section. */
export function isFound(view: FieldView, section: FormSection, search: string): boolean {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const choices = (view.field.choices ?? []).map((choice) => choice.value).join(" ");
  const text = [view.path, view.path.replaceAll("_", " "), view.field.label, view.field.help, section.title, choices].join(" ").toLowerCase();
  return words.every((word) => text.includes(word));
}

/** Problems of one field: its own, and those of what stands in it. */
export function problemsAt(problems: readonly Problem[], path: string): Problem[] {
  const plain = (where: string) => where.replace(/^config\.process\[?\.?0\]?\./, "").replaceAll(/\[(\d+)\]/g, ".$1");
  return problems.filter(({ where }) => {
    const here = plain(where);
    return here === path || here.startsWith(`${path}.`);
  });
}

export type Parsed = { value: unknown } | { problem: string };

/** What someone typed, as a value of the field. Empty: undefined, the default counts. */
export function parseInput(field: FormField, text: string): Parsed {
  const trimmed = text.trim();
  if (!trimmed) return { value: undefined };
  if (field.choices?.some((choice) => choice.value === trimmed)) return { value: trimmed };
  if (field.kind === "int" || field.kind === "float") return parseNumber(field, field.kind, trimmed);
  if (field.kind !== "list") return { value: trimmed };
  const items = trimmed.replaceAll(/^\[|\]$/g, "").split(",").map((item) => item.trim()).filter(Boolean);
  const item = field.item === "int" || field.item === "float" ? field.item : null;
  const parsed = items.map((each): Parsed => (item ? parseNumber(field, item, each) : { value: each }));
  const wrong = parsed.find((each) => "problem" in each);
  return wrong ?? { value: parsed.map((each) => (each as { value: unknown }).value) };
}

function parseNumber(field: FormField, kind: "int" | "float", text: string): Parsed {
  const value = Number(text.replaceAll(/[\s_]/g, ""));
  if (!Number.isFinite(value)) return { problem: `“${text}” is not a number` };
  if (kind === "int" && !Number.isInteger(value)) return { problem: "Enter a whole number" };
  const { minimum: low, maximum: high } = field;
  if (low != null && (field.is_minimum_excluded ? value <= low : value < low))
    return { problem: field.is_minimum_excluded ? `Must be greater than ${low}` : `Must be at least ${low}` };
  if (high != null && (field.is_maximum_excluded ? value >= high : value > high))
    return { problem: field.is_maximum_excluded ? `Must be less than ${high}` : `Must be at most ${high}` };
  return { value };
}

/** A value as it stands in an input. */
export function shownValue(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.map(shownValue).join(", ");
  if (typeof value === "object") return JSON.stringify(value);
  return String(value);
}
