/** Which curves share a chart, what a chart is called, and its figures as a table or CSV. */
import type { Series } from "../generated/api";
import { bytes, figure, sentence } from "./format";

export interface ChartSpec {
  id: string;
  title: string;
  keys: string[];
  format: (value: number | null | undefined) => string;
}

const TITLES: Record<string, string> = {
  loss: "Loss",
  lr: "Learning rate",
  grad_norm: "Gradient norm",
  step_s: "Seconds per step",
  loss_by_noise: "Loss, by share of noise",
  loss_by_dataset: "Loss, by dataset",
  grad_by_noise: "Gradient norm, by share of noise",
  scores: "Picture scores",
};
const FIRST = [
  "loss",
  "validation",
  "scores",
  "loss_by_noise",
  "loss_by_dataset",
  "lr",
  "grad_norm",
  "grad_by_noise",
  "memory",
  "step_s",
];

/** Charts of these figures: known ones first, memory in one, terms of the loss in one, each other figure by itself. */
export function chartsOf(keys: readonly string[]): ChartSpec[] {
  const groups = new Map<string, string[]>();
  for (const key of keys) {
    const id = groupOf(key);
    groups.set(id, [...(groups.get(id) ?? []), key]);
  }
  // the only term of the loss is the loss
  if (groups.get("terms")?.length === 1 && groups.has("loss")) groups.delete("terms");
  const rank = (id: string) => {
    const place = FIRST.indexOf(id.split("/")[0] ?? id);
    return place < 0 ? FIRST.length : place;
  };
  return [...groups]
    .map(([id, group]) => ({ id, title: titleOf(id), keys: group, format: id === "memory" ? bytes : figure }))
    .sort((a, b) => rank(a.id) - rank(b.id) || a.id.localeCompare(b.id));
}

function groupOf(key: string): string {
  if (key.endsWith("_bytes")) return "memory";
  // changes of errors in one, the distance that is no change by itself, and the noise levels of each kind of images
  const round = /^validation\/([^/]+)(\/.)?/.exec(key);
  if (round) return round[2] || round[1] === "preserved" ? `validation/${round[1]}` : "validation";
  const dot = key.search(/[./]/);
  return dot > 0 ? key.slice(0, dot) : key;
}

export function titleOf(key: string): string {
  const words = key
    .replace(/^(memory|scores)\//, "")
    .replace(/_bytes$/, "")
    .replace(/^\w+_by_(noise|dataset)\//, "$1 ")
    .replaceAll(/(?<!\d)\.|[_/]/g, " ")
    .replaceAll(/\b(ram|gpu)\b/g, (word) => word.toUpperCase());
  return TITLES[key] ?? sentence(words);
}

interface Points {
  steps: readonly number[];
  values: readonly (number | null)[];
}

/** One column of steps and one of values for each curve; null where a curve has no point. */
export function joined(curves: readonly Points[]): { steps: number[]; columns: (number | null)[][] } {
  const [first] = curves;
  if (first && curves.every(({ steps }) => steps === first.steps))
    return { steps: [...first.steps], columns: curves.map(({ values }) => [...values]) };
  const steps = [...new Set(curves.flatMap((each) => each.steps))].sort((a, b) => a - b);
  const place = new Map(steps.map((step, index) => [step, index]));
  const columns = curves.map((each) => {
    const column: (number | null)[] = Array.from({ length: steps.length }, () => null);
    each.steps.forEach((step, index) => (column[place.get(step)!] = each.values[index] ?? null));
    return column;
  });
  return { steps, columns };
}

export function aligned(series: readonly Series[]): { steps: number[]; columns: (number | null)[][] } {
  return joined(series.map(({ steps, mean }) => ({ steps, values: mean })));
}

export function csvOf(series: readonly Series[]): string {
  const { steps, columns } = aligned(series);
  const head = ["step", ...series.map((each) => each.key)].map(csvCell).join(",");
  const rows = steps.map((step, row) => [step, ...columns.map((column) => column[row] ?? "")].join(","));
  return [head, ...rows].join("\r\n") + "\r\n";
}

function csvCell(text: string): string {
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** About `most` rows of the table, always with the first and the last. */
export function thinned(num: number, most: number): number[] {
  if (num <= most) return Array.from({ length: num }, (_, place) => place);
  return Array.from({ length: most }, (_, place) => Math.round((place * (num - 1)) / (most - 1)));
}
