/** Every key of the schema, in sections; searched, or only those that the job sets. */
import { useDeferredValue, useMemo, useState } from "react";
import { Button } from "../../../components/Button";
import { Icon } from "../../../components/Icon";
import { Prose } from "../../../components/Prose";
import { Empty } from "../../../components/Page";
import { isFound, listSections, sectionsOf, type SectionView } from "../../../lib/form";
import { count, sentence } from "../../../lib/format";
import { deleteIn, jobPath, setIn, valueAt } from "../../../lib/yamlDoc";
import { Field } from "./Field";
import { useForm } from "./FormContext";

export function FullForm() {
  const { schema, job, model, text, setText } = useForm();
  const [search, setSearch] = useState("");
  const [isChangedOnly, setChangedOnly] = useState(false);
  const [isExpert, setExpert] = useState(false);
  const wanted = useDeferredValue(search);
  const sections = useMemo(() => sectionsOf(schema, job, model), [schema, job, model]);
  const shown = sections
    .map((view) => ({ view, fields: visibleFields(view, wanted, isChangedOnly, isExpert) }))
    .filter(({ view, fields }) => fields.length || (view.entry && !wanted && !isChangedOnly));
  const num = shown.reduce((sum, { fields }) => sum + fields.length, 0);
  return (
    <div className="form form-full">
      <div className="filters">
        <label className="search">
          <Icon name="search" />
          <span className="visually-hidden">Search settings</span>
          <input type="search" placeholder="Search settings" value={search} onChange={(event) => setSearch(event.target.value)} />
        </label>
        <label className="check">
          <input type="checkbox" checked={isChangedOnly} onChange={() => setChangedOnly(!isChangedOnly)} /> Changed only
        </label>
        <label className="check">
          <input type="checkbox" checked={isExpert} onChange={() => setExpert(!isExpert)} /> Expert settings
        </label>
        <span className="hint figure" role="status">
          {count(num, "setting")}
        </span>
      </div>
      {shown.map(({ view, fields }) => (
        <fieldset key={view.path} className="form-group">
          <legend>{view.title}</legend>
          {view.section.help && <p className="hint"><Prose text={sentence(view.section.help)} /></p>}
          {view.entry && (
            <Button look="quiet" icon="trash" onClick={() => setText(deleteIn(text, jobPath(view.path)))}>
              Remove {view.title.toLowerCase()}
            </Button>
          )}
          {fields.map((field) => (
            <Field key={field.path} view={field} showsPath />
          ))}
          <Hidden view={view} search={wanted} />
        </fieldset>
      ))}
      {!shown.length && <Empty title={isChangedOnly ? "No settings have been changed." : "No settings match your search."} />}
      {!wanted && !isChangedOnly && (
        <div className="row">
          {listSections(schema).map(({ section, list }) => (
            <Button
              key={list}
              icon="plus"
              onClick={() => {
                const entries = valueAt(job, jobPath(list));
                const number = Array.isArray(entries) ? entries.length : 0;
                const first = section.fields.find((field) => field.is_required) ?? section.fields[0]!;
                setText(setIn(text, jobPath(`${list}.${number}`), { [first.key]: "" }));
              }}
            >
              Add {section.title.replace(/s$/, "").toLowerCase()}
            </Button>
          ))}
        </div>
      )}
    </div>
  );
}

function visibleFields(view: SectionView, search: string, isChangedOnly: boolean, isExpert: boolean) {
  return view.fields.filter((field) => {
    if (isChangedOnly && !field.isSet) return false;
    if (field.hidden && !field.isSet) return false;
    if (search) return isFound(field, view.section, search);
    return isExpert || field.isSet || field.field.level !== "expert";
  });
}

/** Settings that the model has no use for, with the reason. */
function Hidden({ view, search }: { view: SectionView; search: string }) {
  const hidden = view.fields.filter((field) => field.hidden && !field.isSet && (!search || isFound(field, view.section, search)));
  if (!hidden.length) return null;
  const reasons = [...new Set(hidden.map((field) => field.hidden!))];
  return (
    <ul className="hidden-fields hint">
      {reasons.map((reason) => (
        <li key={reason}>
          Hidden because {reason}: {hidden.filter((field) => field.hidden === reason).map((field) => field.field.label).join(", ")}
        </li>
      ))}
    </ul>
  );
}
