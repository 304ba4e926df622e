/** The form of a try-out as people type it, and the request that it makes. */
import type { Problem, TryoutRequest, TryoutStart } from "../generated/api";

export interface TryoutForm {
  name: string;
  prompts: string;
  loras: string[];
  hasBase: boolean;
  strengths: string;
  seeds: string;
  width: string;
  height: string;
  steps: string;
  guidance: string;
}

export function formOf(start: TryoutStart, loras: string[]): TryoutForm {
  return {
    name: start.name,
    prompts: start.prompts.join("\n"),
    loras,
    hasBase: true,
    strengths: "1",
    seeds: String(Math.max(0, start.seed)),
    width: String(start.width),
    height: String(start.height),
    steps: String(start.sample_steps),
    guidance: String(start.guidance_scale),
  };
}

export interface Read {
  request: TryoutRequest;
  /** what cannot be read as numbers, by field */
  problems: Problem[];
  numPictures: number;
  /** how that number comes about */
  words: string;
}

/** @param source such as `run=ID` or `arch=NAME` */
export function readForm(form: TryoutForm, source: string): Read {
  const problems: Problem[] = [];
  const numbers = (field: string, text: string, isWhole: boolean): number[] =>
    text.split(/[\s,;]+/).filter(Boolean).flatMap((word) => {
      const value = Number(word);
      if (Number.isFinite(value) && (!isWhole || Number.isSafeInteger(value))) return [value];
      problems.push({ severity: "error", where: field, what: `“${word}” is not a ${isWhole ? "whole " : ""}number.` } as Problem);
      return [];
    });
  const one = (field: string, text: string, isWhole = true): number => {
    const [value, ...more] = numbers(field, text, isWhole);
    if (value !== undefined && !more.length) return value;
    if (!problems.some(({ where }) => where === field)) problems.push({ severity: "error", where: field, what: "Give one number." } as Problem);
    return 0;
  };
  const [kind, id] = source.split("=");
  const prompts = form.prompts.split("\n").map((line) => line.trim()).filter(Boolean);
  const strengths = [...new Set(numbers("strengths", form.strengths, false))];
  const seeds = [...new Set(numbers("seeds", form.seeds, true))];
  const request: TryoutRequest = {
    run: kind === "run" ? (id ?? null) : null,
    arch: kind === "arch" ? (id ?? null) : null,
    name: form.name.trim(),
    prompts,
    loras: form.loras,
    has_base: form.hasBase,
    strengths,
    seeds,
    width: one("width", form.width),
    height: one("height", form.height),
    sample_steps: one("sample_steps", form.steps),
    guidance_scale: one("guidance_scale", form.guidance, false),
  };
  const used = strengths.filter((value) => value !== 0).length;
  const columns = Number(form.hasBase) + form.loras.length * used;
  const files = `${form.loras.length} ${form.loras.length === 1 ? "LoRA" : "LoRAs"} × ${used} ${used === 1 ? "strength" : "strengths"}`;
  return {
    request,
    problems,
    numPictures: prompts.length * seeds.length * columns,
    words: `${prompts.length} ${prompts.length === 1 ? "prompt" : "prompts"} × ${seeds.length} ${seeds.length === 1 ? "seed" : "seeds"} × (${files}${form.hasBase ? " + 1 without" : ""})`,
  };
}

const FIELDS: Record<string, string> = {
  "config.name": "name",
  training_folder: "name",
  checkpoints: "loras",
  "generate.prompts": "prompts",
  "generate.seeds": "seeds",
  "generate.width": "width",
  "generate.height": "height",
  "generate.sample_steps": "sample_steps",
  "generate.guidance_scale": "guidance_scale",
};
const OWN = new Set(["run", "arch", ...Object.values(FIELDS), "strengths"]);

/** The field of the form that a problem is in; undefined where it is in none. */
export function fieldOf(where: string): string | undefined {
  const key = Object.keys(FIELDS).find((each) => where === each || where.startsWith(`${each}.`));
  const own = where.split(".")[0]!;
  return key ? FIELDS[key] : OWN.has(own) ? own : undefined;
}

/** "style x 0.8", as the head of a column. */
export function columnName({ name, strength }: { name: string; strength: number | null }): string {
  return strength === null ? name : `${name} × ${strength}`;
}
