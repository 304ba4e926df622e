/** The form of a captioning job, and the request that it makes. */
import type { CaptionJobRequest } from "../generated/api";

export interface CaptionForm {
  model: string;
  instruction: string;
  prefix: string;
  pictures: "missing" | "all";
}

/** null: no model is named yet. */
export function requestOf(dataset: string, { model, instruction, prefix, pictures }: CaptionForm): CaptionJobRequest | null {
  return model.trim() ? { dataset, model: model.trim(), instruction: instruction.trim(), prefix, has_all: pictures === "all" } : null;
}

const FIELDS: Record<string, keyof CaptionForm> = {
  model: "model",
  instruction: "instruction",
  prefix: "prefix",
  "caption.model_name_or_path": "model",
  "caption.caption_prompt": "instruction",
  "caption.prefix": "prefix",
  "caption.path_to_caption": "pictures",
};

/** The field of the form that a problem is in; undefined where it is in none. */
export function fieldOf(where: string): keyof CaptionForm | undefined {
  return FIELDS[where];
}
