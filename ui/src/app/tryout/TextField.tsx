/** A field with its help, and what is wrong with it beside it. */
import { useId } from "react";
import { ProblemList } from "../../components/Problems";
import { Prose } from "../../components/Prose";
import type { Problem } from "../../generated/api";
import "../../styles/tryout.css";

interface Props {
  label: string;
  help?: string;
  /** more than one: a text of several lines */
  rows?: number;
  value: string;
  problems: Problem[];
  onChange: (value: string) => void;
}

export function TextField({ label, help, rows = 1, value, problems, onChange }: Props) {
  const id = useId();
  const shared = {
    id,
    value,
    "aria-invalid": problems.some(({ severity }) => severity === "error") || undefined,
    "aria-describedby": [help && `${id}-help`, problems.length && `${id}-problems`].filter(Boolean).join(" ") || undefined,
  };
  return (
    <div className="tryout-field">
      <label htmlFor={id}>{label}</label>
      {rows > 1 ? (
        <textarea {...shared} rows={rows} onChange={(event) => onChange(event.target.value)} />
      ) : (
        <input {...shared} type="text" onChange={(event) => onChange(event.target.value)} />
      )}
      {help && (
        <p id={`${id}-help`} className="hint">
          <Prose text={help} />
        </p>
      )}
      {problems.length > 0 && (
        <div id={`${id}-problems`}>
          <ProblemList problems={problems.map((problem) => ({ ...problem, where: "" }))} />
        </div>
      )}
    </div>
  );
}
