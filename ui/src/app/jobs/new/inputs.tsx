/** Inputs for the kinds of values that a key may have. */
import { useEffect, useState } from "react";
import { Button } from "../../../components/Button";
import { Prose } from "../../../components/Prose";
import type { ModelInfo } from "../../../generated/api";
import { parseInput, shownValue, type FieldView } from "../../../lib/form";

export interface InputProps {
  id: string;
  view: FieldView;
  /** undefined: take the key away */
  onChange: (value: unknown) => void;
  describedBy: string;
  isWrong: boolean;
}

/** Text, numbers, paths and lists: what is typed counts as soon as it can be read. */
export function TextInput({ id, view, onChange, describedBy, isWrong }: InputProps) {
  const { field, value, fallback } = view;
  const [typed, setTyped] = useState<string | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const shown = typed ?? shownValue(value);
  useEffect(() => setProblem(null), [value]);
  const isNumber = field.kind === "int" || field.kind === "float";
  const choices = field.choices ?? [];
  const type = (text: string) => {
    setTyped(text);
    const parsed = parseInput(field, text);
    if ("problem" in parsed) return setProblem(parsed.problem);
    setProblem(null);
    if (shownValue(parsed.value) !== shownValue(value)) onChange(parsed.value);
  };
  if (field.kind === "mapping")
    return <p className="hint" id={id}>{shownValue(value) || "Empty"} (edit in the YAML view)</p>;
  return (
    <>
      <span className="input-unit">
        <input
          id={id}
          value={shown}
          inputMode={isNumber ? "decimal" : undefined}
          className={isNumber ? "input-number" : ""}
          spellCheck={false}
          autoComplete="off"
          list={choices.length ? `${id}-choices` : undefined}
          placeholder={shownValue(fallback)}
          aria-describedby={describedBy}
          aria-invalid={isWrong || problem !== null || undefined}
          required={field.is_required}
          onChange={(event) => type(event.target.value)}
          onBlur={() => problem === null && setTyped(null)}
        />
        {field.unit && <span className="unit">{field.unit}</span>}
        {choices.length > 0 && (
          <datalist id={`${id}-choices`}>
            {choices.map((choice) => (
              <option key={choice.value} value={choice.value} />
            ))}
          </datalist>
        )}
      </span>
      {problem && <p className="error-text" role="alert">{problem}</p>}
    </>
  );
}

export function CheckInput({ id, view, onChange, describedBy, isWrong }: InputProps) {
  const isOn = Boolean(view.isSet ? view.value : view.fallback);
  return (
    <input
      type="checkbox"
      id={id}
      checked={isOn}
      aria-describedby={describedBy}
      aria-invalid={isWrong || undefined}
      onChange={(event) => onChange(event.target.checked)}
    />
  );
}

/** A choice of names. An empty one stands for the default; a value that is not among them is shown all the same. */
export function ChoiceInput({ id, view, onChange, describedBy, isWrong }: InputProps) {
  const { field, value, fallback } = view;
  const choices = field.choices ?? [];
  const shown = shownValue(value);
  const help = choices.find((choice) => choice.value === (shown || shownValue(fallback)))?.help;
  return (
    <>
      <select
        id={id}
        value={shown}
        aria-describedby={describedBy}
        aria-invalid={isWrong || undefined}
        onChange={(event) => onChange(event.target.value || undefined)}
      >
        {!field.is_required && <option value="">{fallback != null ? `${shownValue(fallback)} (default)` : "Not set"}</option>}
        {shown && !choices.some((choice) => choice.value === shown) && <option value={shown}>{shown}</option>}
        {choices.map((choice) => (
          <option key={choice.value} value={choice.value}>
            {choice.value}
          </option>
        ))}
      </select>
      {help && <p className="hint"><Prose text={help} /></p>}
    </>
  );
}

interface ModelProps extends InputProps {
  models: ModelInfo[];
  onModel: (model: ModelInfo) => void;
}

/** All models, by family. */
export function ModelInput({ id, view, models, onModel, describedBy, isWrong }: ModelProps) {
  const shown = shownValue(view.value);
  const families = [...new Set(models.map((model) => model.family))];
  return (
    <select
      id={id}
      value={shown}
      aria-describedby={describedBy}
      aria-invalid={isWrong || undefined}
      onChange={(event) => {
        const model = models.find((each) => each.arch === event.target.value);
        if (model) onModel(model);
      }}
    >
      {!models.some((model) => model.arch === shown) && <option value={shown}>{shown || "Choose a model"}</option>}
      {families.map((family) => (
        <optgroup key={family} label={family}>
          {models.filter((model) => model.family === family).map((model) => (
            <option key={model.arch} value={model.arch}>
              {model.label}
            </option>
          ))}
        </optgroup>
      ))}
    </select>
  );
}

interface PromptsProps extends InputProps {
  prompts: string[];
  onPrompts: (prompts: string[]) => void;
}

/** A text for each sample; a new empty one is at the end. */
export function PromptsInput({ id, prompts, onPrompts, describedBy }: PromptsProps) {
  const change = (place: number, prompt: string) => onPrompts(prompts.map((each, other) => (other === place ? prompt : each)));
  return (
    <div className="prompts" role="group" aria-labelledby={id} aria-describedby={describedBy}>
      {prompts.map((prompt, place) => (
        <div key={place} className="prompt-row">
          <textarea
            rows={1}
            value={prompt}
            aria-label={`Prompt ${place + 1}`}
            onChange={(event) => change(place, event.target.value)}
          />
          <Button
            icon="cross"
            look="quiet"
            label={`Remove prompt ${place + 1}`}
            onClick={() => onPrompts(prompts.filter((_, other) => other !== place))}
          />
        </div>
      ))}
      <Button icon="plus" onClick={() => onPrompts([...prompts, ""])}>
        Add prompt
      </Button>
    </div>
  );
}
