/** One key of the job: name, input, unit, help, where its value comes from, and what is wrong with it. */
import { useId } from "react";
import { Button } from "../../../components/Button";
import { Prose } from "../../../components/Prose";
import { ProblemList } from "../../../components/Problems";
import { withModel } from "../../../lib/draft";
import { labelOf, problemsAt, shownValue, sibling, type FieldView } from "../../../lib/form";
import { promptsOf, withPrompts } from "../../../lib/prompts";
import { applyFix, deleteIn, jobPath, setIn } from "../../../lib/yamlDoc";
import { useForm } from "./FormContext";
import { CheckInput, ChoiceInput, ModelInput, PromptsInput, TextInput, type InputProps } from "./inputs";

export function Field({ view, showsPath = false }: { view: FieldView; showsPath?: boolean }) {
  const form = useForm();
  const { field, path, isSet } = view;
  const id = useId();
  const found = problemsAt(form.problems, path);
  const change = (value: unknown) => {
    const place = jobPath(path);
    form.setText(value === undefined ? deleteIn(form.text, place) : setIn(form.text, place, value));
  };
  const input: InputProps = {
    id,
    view,
    onChange: change,
    describedBy: `${id}-help${found.length ? ` ${id}-problems` : ""}`,
    isWrong: found.some((problem) => problem.severity === "error"),
  };
  const isWide = field.widget === "prompts";
  return (
    <div className={`form-field ${isSet ? "is-set" : ""} ${isWide ? "is-wide" : ""}`} data-path={path}>
      <div className="form-label">
        {isWide ? <span id={id}>{field.label}</span> : <label htmlFor={id}>{field.label}</label>}
        {showsPath && isSet && !field.is_required && (
          <Button icon="undo" look="quiet" label={`Reset ${field.label} to default`} onClick={() => change(undefined)} />
        )}
        {showsPath && <code className="form-key">{field.key}</code>}
      </div>
      <div className="form-input">
        {inputOf(input, form)}
        <p id={`${id}-help`} className="hint">
          <Prose text={field.help ?? ""} />
          {showsPath && field.when && <Prose text={` Only used ${field.when}.`} />}
          <Origin view={view} />
        </p>
        {found.length > 0 && (
          <div id={`${id}-problems`}>
            <ProblemList
              problems={found.map((problem) => ({ ...problem, where: problem.where === path ? "" : problem.where }))}
              onFix={(change) => form.setText(applyFix(form.text, change))}
            />
          </div>
        )}
      </div>
    </div>
  );
}

function inputOf(input: InputProps, form: ReturnType<typeof useForm>) {
  const { field, path } = input.view;
  if (field.widget === "prompts")
    return <PromptsInput {...input} prompts={promptsOf(form.job, path)} onPrompts={(prompts) => form.setText(withPrompts(form.text, path, prompts))} />;
  if (field.widget === "arch")
    return (
      <ModelInput
        {...input}
        models={form.models}
        onModel={(model) => form.setText(withModel(form.text, form.job, form.model, model))}
      />
    );
  if (field.kind === "bool") return <CheckInput {...input} />;
  if (field.kind === "choice") return <ChoiceInput {...input} />;
  return <TextInput key={path} {...input} />;
}

/** Where a value comes from that the job does not set. */
function Origin({ view }: { view: FieldView }) {
  const { schema } = useForm();
  const { field, path, isSet, fallback, origin } = view;
  if (isSet || fallback == null || fallback === "" || field.kind === "bool") return null;
  const shown = shownValue(fallback);
  if (!shown || shown.length > 60) return null;
  return (
    <span className="origin">
      {" "}
      {origin === "model" ? "Set by the model" : "Default"}: <span className="figure">{shown}</span>
      {field.default_key && !origin.startsWith("model") && `, same as ${labelOf(schema, sibling(path, field.default_key))}`}
    </span>
  );
}
