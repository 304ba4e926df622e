/** What a comparison shows, as its address holds it: runs, step, curves, smoothing, scale. */
import type { Samples } from "../generated/api";
import { chartsOf, type ChartSpec } from "./charts";
import { MOST_RUNS } from "./jobsList";
import type { SampleMatrix } from "./matrix";

const ID = /^[0-9a-f]{16}$/;
const FIRST_SMOOTHING = 0.9;
const MOST_SMOOTHING = 0.99;

export interface CompareView {
  runs: string[];
  /** null: the last step that has samples */
  step: number | null;
  /** keys of the curves; null: the usual ones */
  keys: string[] | null;
  smoothing: number;
  isLog: boolean;
}

/** What an address says; what it says wrongly is as if it were not there. */
export function viewOf(search: URLSearchParams): CompareView {
  const runs = [...new Set((search.get("runs") ?? "").split(","))].filter((id) => ID.test(id)).slice(0, MOST_RUNS);
  const step = search.get("step") ?? "";
  const smoothing = Number(search.get("smoothing") ?? FIRST_SMOOTHING);
  const curves = search.get("curves");
  return {
    runs,
    step: /^\d{1,9}$/.test(step) ? Number(step) : null,
    keys: curves === null ? null : curves.split(",").filter(Boolean),
    smoothing: smoothing >= 0 && smoothing <= MOST_SMOOTHING ? smoothing : FIRST_SMOOTHING,
    isLog: search.get("log") === "1",
  };
}

/** The address of a view, without what is as usual. */
export function searchOf({ runs, step, keys, smoothing, isLog }: CompareView): URLSearchParams {
  const search = new URLSearchParams({ runs: runs.join(",") });
  if (step !== null) search.set("step", String(step));
  if (keys !== null) search.set("curves", keys.join(","));
  if (smoothing !== FIRST_SMOOTHING) search.set("smoothing", String(smoothing));
  if (isLog) search.set("log", "1");
  return search;
}

/** A chart for each curve: runs lie over each other, so that none has room for two figures. */
export function singleCharts(keys: readonly string[]): ChartSpec[] {
  return chartsOf([...new Set(keys)]).flatMap((chart) =>
    chart.keys.length === 1
      ? [chart]
      : chart.keys.map((key) => ({ ...chart, id: key, title: `${chart.title}: ${wordsOf(key)}`, keys: [key] })),
  );
}

/** Loss and validation are what runs are judged by. */
export function isUsual(key: string): boolean {
  return key === "loss" || /^validation\/[^/]+$/.test(key);
}

interface PromptRow {
  prompt: string;
  /** of the prompt in each run; undefined where a run does not have it */
  indices: (number | undefined)[];
}

/** A row for each prompt: the same text in the same order is the same prompt, wherever it stands in its run. */
export function promptRows(matrices: readonly (SampleMatrix | undefined)[]): PromptRow[] {
  const rows = new Map<string, PromptRow>();
  matrices.forEach((matrix, run) => {
    const seen = new Map<string, number>();
    for (const { index, prompt } of matrix?.columns ?? []) {
      const nth = seen.get(prompt) ?? 0;
      seen.set(prompt, nth + 1);
      const key = `${nth} ${prompt}`;
      const row = rows.get(key) ?? { prompt, indices: matrices.map(() => undefined) };
      row.indices[run] = index;
      rows.set(key, row);
    }
  });
  return [...rows.values()];
}

/** Every step at which one of the runs has samples. */
export function stepsOf(samples: readonly Pick<Samples, "steps">[]): number[] {
  return [...new Set(samples.flatMap(({ steps }) => steps))].sort((a, b) => a - b);
}

function wordsOf(key: string): string {
  return key.slice(key.indexOf("/") + 1).replace(/_bytes$/, "").replaceAll(/[._/]/g, " ").replaceAll(/\b(ram|gpu)\b/g, (word) => word.toUpperCase());
}
