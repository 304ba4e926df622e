/** The short form: what has to be decided, the model first. */
import { simpleForm } from "../../../lib/form";
import { Field } from "./Field";
import { useForm } from "./FormContext";
import { ModelCard } from "./ModelCard";

export function SimpleForm() {
  const { schema, job, model } = useForm();
  return (
    <div className="form">
      {simpleForm(schema, job, model).map(({ title, fields }) => (
        <fieldset key={title} className="form-group">
          <legend>{title}</legend>
          {fields.map((view) => (
            <Field key={view.path} view={view} />
          ))}
          {fields.some(({ field }) => field.widget === "arch") && model && <ModelCard model={model} />}
        </fieldset>
      ))}
    </div>
  );
}
