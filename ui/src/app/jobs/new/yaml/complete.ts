/** Completion of keys and values in the editor. */
import type { Completion, CompletionContext, CompletionResult } from "@codemirror/autocomplete";
import { optionsAt, placeAt } from "../../../../lib/complete";
import type { FormState } from "../FormContext";

export function completeJob(context: CompletionContext, form: FormState): CompletionResult | null {
  const line = context.state.doc.lineAt(context.pos);
  const word = context.matchBefore(/[\w./-]*/);
  const before = line.text.slice(0, context.pos - line.from);
  if (/#/.test(before) || (!context.explicit && !word?.text)) return null;
  const lines = context.state.doc.toString().split("\n");
  const place = placeAt(lines, line.number - 1);
  const isValue = /^\s*(- )?[\w-]+:\s+\S*$/.test(before);
  const options = optionsAt({ ...place, key: isValue ? place.key : null }, form.schema, form.models);
  if (!options.length) return null;
  return {
    from: word?.from ?? context.pos,
    validFor: /^[\w./-]*$/,
    options: options.map(
      ({ label, detail, info }): Completion => ({
        label,
        detail,
        info: info || undefined,
        type: isValue ? "constant" : "property",
        apply: isValue ? label : detail === "section" ? `${label}:` : `${label}: `,
      }),
    ),
  };
}
