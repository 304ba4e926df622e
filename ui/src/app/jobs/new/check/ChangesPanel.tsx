/** How the job being edited differs from its last run, or from the job that it was cloned from; each with its way back. */
import { useMemo, useState } from "react";
import { Button } from "../../../../components/Button";
import { useOrigins } from "../../../../hooks/queries";
import type { Origin } from "../../../../generated/api";
import { allReverted, changesBetween, reverted, type SettingChange } from "../../../../lib/changes";
import { count } from "../../../../lib/format";
import { parseJob } from "../../../../lib/yamlDoc";
import type { FormState } from "../FormContext";

interface Props {
  id: string;
  form: FormState;
  onChange: (yaml: string, said: string) => void;
  onShow: (path: string) => void;
}

export function ChangesPanel({ id, form, onChange, onShow }: Props) {
  const { data } = useOrigins(id);
  const [chosen, setChosen] = useState(0);
  const origin = data?.origins[chosen] ?? data?.origins[0];
  if (!data || !origin) return null;
  return (
    <section aria-label="Changes">
      {data.origins.length > 1 ? (
        <label className="inline-field">
          Compared with
          <select value={chosen} onChange={(event) => setChosen(Number(event.target.value))}>
            {data.origins.map((each, place) => (
              <option key={each.kind} value={place}>
                {nameOf(each)}
              </option>
            ))}
          </select>
        </label>
      ) : (
        <h2>Compared with {nameOf(origin)}</h2>
      )}
      <Changes origin={origin} form={form} onChange={onChange} onShow={onShow} />
    </section>
  );
}

function nameOf({ kind, name }: Origin): string {
  return kind === "run" ? "its last run" : name;
}

function Changes({ origin, form, onChange, onShow }: Omit<Props, "id"> & { origin: Origin }) {
  const { schema, models, job, text } = form;
  const before = useMemo(() => parseJob(origin.yaml).value, [origin.yaml]);
  const changes = useMemo(() => changesBetween(before, job, schema, models), [before, job, schema, models]);
  if (!changes.length) return <p className="hint">No settings differ.</p>;
  return (
    <>
      <div className="row changes-head">
        <span>{count(changes.length, "setting")} changed</span>
        {changes.length > 1 && (
          <Button look="quiet" onClick={() => onChange(allReverted(text, before, schema, models), "All settings are as they were.")}>
            Revert all
          </Button>
        )}
      </div>
      <ul className="changes">
        {changes.map((change) => (
          <li key={change.path}>
            <Row change={change} asksFirst={origin.kind === "run" && !change.isHarmless} onShow={onShow} />
            <Button
              icon="undo"
              look="quiet"
              label={`Revert ${change.label} to ${change.before}`}
              onClick={() => onChange(reverted(text, before, change.path), `${change.label}: ${change.before}.`)}
            />
          </li>
        ))}
      </ul>
    </>
  );
}

interface RowProps {
  change: SettingChange;
  /** a run that resumes with it must be allowed to */
  asksFirst: boolean;
  onShow: (path: string) => void;
}

function Row({ change, asksFirst, onShow }: RowProps) {
  return (
    <div>
      <button type="button" className="link" title={change.path} onClick={() => onShow(change.path)}>
        {change.label}
      </button>
      <p className="figure">
        <span className="visually-hidden">was </span>
        <del>{change.before}</del> <span aria-hidden="true">→</span>
        <span className="visually-hidden">, is now </span> <ins>{change.now}</ins>
      </p>
      {asksFirst && <p className="hint">Changes the training: resuming with it asks first.</p>}
    </div>
  );
}
