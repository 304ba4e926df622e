/** What the fields of a form share: the document, the schema, the models, the problems found. */
import { createContext, useContext } from "react";
import type { FormSchema, ModelInfo, Problem } from "../../../generated/api";
import { jobPath, valueAt } from "../../../lib/yamlDoc";

export interface FormState {
  schema: FormSchema;
  models: ModelInfo[];
  /** plain values of the document */
  job: unknown;
  text: string;
  setText: (text: string) => void;
  problems: readonly Problem[];
}

export const FormContext = createContext<FormState | null>(null);

export function useForm(): FormState & { model: ModelInfo | undefined } {
  const form = useContext(FormContext)!;
  const arch = valueAt(form.job, jobPath("model.arch"));
  return { ...form, model: form.models.find((model) => model.arch === arch) };
}
