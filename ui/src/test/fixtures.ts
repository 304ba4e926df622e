/** Answers of the server as tests need them. */
import type { FormField, FormSchema, JobRow, ModelInfo, Progress, Sample } from "../generated/api";
import form from "../generated/form.json";

export const SCHEMA = form as FormSchema;

export function row(given: Partial<JobRow> = {}): JobRow {
  return {
    id: "0123456789abcdef",
    name: "job",
    state: "draft",
    reason: "",
    arch: null,
    kind: "LoRA",
    dataset: null,
    gpu: null,
    queue_position: null,
    is_held: false,
    planned: null,
    progress: null,
    thumb: null,
    output_folder: "output/job",
    created: 0,
    updated: 0,
    is_external: false,
    stars: 0,
    note: "",
    ...given,
  };
}

export function progress(given: Partial<Progress> = {}): Progress {
  return { phase: "train", step: 1, total_steps: 9, done: null, total: null, loss: null, recent_loss: null, lr: null, step_s: null, eta_s: null, phase_left_s: null, ...given };
}

export function sample(step: number, index: number, given: Partial<Sample> = {}): Sample {
  return {
    file: `file-${step}-${index}`,
    step,
    index,
    prompt: null,
    seed: null,
    width: null,
    height: null,
    time: 0,
    is_starred: false,
    ...given,
  };
}

export function model(given: Partial<ModelInfo> = {}): ModelInfo {
  return {
    arch: "toy",
    family: "toys",
    label: "Toy",
    summary: "",
    source: "toys/toy",
    licence: "",
    is_gated: false,
    num_parameters: 0,
    capabilities: [],
    defaults: {},
    notes: [],
    variants: [],
    ...given,
  };
}

export function field(given: Partial<FormField> = {}): FormField {
  return { key: "key", path: "train.key", label: "Key", kind: "text", ...given };
}
