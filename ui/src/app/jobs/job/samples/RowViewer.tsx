/** A picture of a row large, and against another of the row: another run, another LoRA. */
import { useState, type ReactNode } from "react";
import { Segmented } from "../../../../components/Segmented";
import type { Shown } from "./Stage";
import { ViewerFrame } from "./ViewerFrame";

interface Props {
  prompt: string;
  /** what a picture of the row is, such as "Run" */
  what: string;
  /** in the order of the page; undefined where there is none */
  pictures: (Shown | undefined)[];
  at: number;
  onMove: (place: number) => void;
  /** the arrows up and down */
  onRow?: (by: number) => void;
  onClose: () => void;
  foot?: ReactNode;
}

const MOST_BUTTONS = 4;

export function RowViewer({ prompt, what, pictures, at, onMove, onRow, onClose, foot }: Props) {
  const there = pictures.flatMap((picture, place) => (picture ? [place] : []));
  const [against, setAgainst] = useState(() => there.find((place) => place !== at) ?? at);
  const here = pictures[at] ? at : (there[0] ?? at);
  const beside = pictures[against] ? against : here;
  const [sample, other] = [pictures[here], pictures[beside]];
  if (!sample || !other) return null;
  const go = (by: number) => onMove(there[(there.indexOf(here) + by + there.length) % there.length] ?? here);
  const names = Object.fromEntries(there.map((place) => [String(place), pictures[place]!.label]));
  const rows: Record<string, () => void> = onRow ? { ArrowUp: () => onRow(-1), ArrowDown: () => onRow(1) } : {};
  return (
    <ViewerFrame
      label={`Sample: ${prompt}`}
      sample={sample}
      other={other}
      firstMode={there.length > 1 ? "wipe" : "single"}
      keys={{ ArrowLeft: () => go(-1), ArrowRight: () => go(1), ...rows }}
      onClose={onClose}
      foot={(mode) => (
        <>
          <p className="viewer-prompt">{prompt}</p>
          <div className="row">
            <Choice label={what} names={names} value={String(here)} onChange={(place) => onMove(Number(place))} />
            {mode !== "single" && <Choice label="with" names={names} value={String(beside)} onChange={(place) => setAgainst(Number(place))} />}
            {foot}
          </div>
        </>
      )}
    />
  );
}

interface ChoiceProps {
  label: string;
  names: Record<string, string>;
  value: string;
  onChange: (value: string) => void;
}

function Choice({ label, names, value, onChange }: ChoiceProps) {
  if (Object.keys(names).length <= MOST_BUTTONS)
    return (
      <span className="inline-field">
        {label} <Segmented label={label} options={names} value={value} onChange={onChange} />
      </span>
    );
  return (
    <label className="inline-field">
      {label}
      <select value={value} onChange={(event) => onChange(event.target.value)}>
        {Object.entries(names).map(([place, name]) => (
          <option key={place} value={place}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}
