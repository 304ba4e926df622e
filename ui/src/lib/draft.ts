/** The text that a new job begins with, and drafts that survive a closed tab. */
import type { FormSchema, ModelInfo } from "../generated/api";
import { jobTypeOptions } from "../app/jobs/new/options";
import { fieldAt } from "./form";
import { deleteIn, jobPath, setIn, valueAt } from "./yamlDoc";

/** A job with its model and nothing else decided: defaults of the trainer and of the model's card count. */
export function newJob(schema: FormSchema, model: ModelInfo | undefined, trainingFolder: string): string {
  const start = `job: extension
config:
  name: my_lora
  process:
    - type: ${jobTypeOptions[0].value}
      training_folder: output
      model:
        arch: unset
        name_or_path: unset
      network:
        type: ${String(fieldAt(schema, "network.type")?.default)}
      datasets:
        - folder_path: my_images
`;
  const withFolder = setIn(start, jobPath("training_folder"), trainingFolder);
  return model ? withModel(withFolder, undefined, undefined, model) : withFolder;
}

/**
 * The text with another model. Weights named by the job change too, unless they are someone's own.
 *
 * @param before the model that it named until now.
 */
export function withModel(text: string, job: unknown, before: ModelInfo | undefined, model: ModelInfo): string {
  const source = valueAt(job, jobPath("model.name_or_path"));
  const changed = setIn(text, jobPath("model.arch"), model.arch);
  const isOwn = source != null && source !== "" && before !== undefined && source !== before.source;
  if (isOwn) return changed;
  return model.source ? setIn(changed, jobPath("model.name_or_path"), model.source) : deleteIn(changed, jobPath("model.name_or_path"));
}

/**
 * The models that a job file can be rewritten for: the family that new jobs begin with, unless it is of that family.
 *
 * @param arch the model of the file; null if it names no model that is known.
 * @param usual the model that new jobs begin with; it comes first.
 */
export function targetsOf(models: ModelInfo[], arch: string | null, usual: string | undefined): ModelInfo[] {
  const familyOf = (name: string | null | undefined) => models.find((model) => model.arch === name)?.family;
  const [from, to] = [familyOf(arch), familyOf(usual)];
  if (from === undefined || from === to) return [];
  return models.filter((model) => model.family === to).sort((a, b) => Number(b.arch === usual) - Number(a.arch === usual));
}

/** What a new job is to begin with. */
export interface Given {
  folder: string | null;
  trigger: string | null;
}

/** The text with the folder of its first dataset, and its trigger word. */
export function withGiven(text: string, { folder, trigger }: Given): string {
  const withFolder = folder ? setIn(text, jobPath("datasets.0.folder_path"), folder) : text;
  return trigger ? setIn(withFolder, jobPath("trigger_word"), trigger) : withFolder;
}

const key = (id: string | undefined) => `draft:${id ?? "new"}`;

export function loadDraft(id: string | undefined): string | null {
  return localStorage.getItem(key(id));
}

/** @param text null: forget it. */
export function storeDraft(id: string | undefined, text: string | null): void {
  try {
    if (text === null) localStorage.removeItem(key(id));
    else localStorage.setItem(key(id), text);
  } catch {
    // a full or forbidden store: the draft lives as long as the page
  }
}
