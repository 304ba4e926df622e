/** A choice of a few, drawn as one row of joined buttons: radio buttons underneath. */
import { useId, type ReactNode } from "react";

interface Props<T extends string> {
  label: string;
  options: Record<T, ReactNode>;
  value: T;
  onChange: (value: T) => void;
}

export function Segmented<T extends string>({ label, options, value, onChange }: Props<T>) {
  const name = useId();
  return (
    <fieldset className="segmented">
      <legend className="visually-hidden">{label}</legend>
      {(Object.keys(options) as T[]).map((key) => (
        <label key={key}>
          <input type="radio" name={name} checked={key === value} onChange={() => onChange(key)} />
          <span>{options[key]}</span>
        </label>
      ))}
    </fieldset>
  );
}
