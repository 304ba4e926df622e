/** The picture of one run large, and against that of another. */
import { useState, type ReactNode } from "react";
import { Segmented } from "../../components/Segmented";
import type { Sample } from "../../generated/api";
import { ViewerFrame } from "../jobs/job/samples/ViewerFrame";

interface Props {
  prompt: string;
  /** in the order of the page; without a sample where there is none */
  pictures: { name: string; sample: Sample | undefined }[];
  at: number;
  onMove: (place: number) => void;
  onClose: () => void;
  foot: ReactNode;
}

export function RunViewer({ prompt, pictures, at, onMove, onClose, foot }: Props) {
  const there = pictures.flatMap(({ sample }, place) => (sample ? [place] : []));
  const [against, setAgainst] = useState(() => there.find((place) => place !== at) ?? at);
  const here = pictures[at]?.sample ? at : (there[0] ?? at);
  const beside = pictures[against]?.sample ? against : here;
  const shown = (place: number) => {
    const { name, sample } = pictures[place]!;
    return { file: sample?.file ?? "", label: name, alt: `${name}, step ${sample?.step}: ${prompt}` };
  };
  const go = (by: number) => onMove(there[(there.indexOf(here) + by + there.length) % there.length] ?? here);
  if (!there.length) return null;
  const names = Object.fromEntries(there.map((place) => [String(place), pictures[place]!.name]));
  return (
    <ViewerFrame
      label={`Sample: ${prompt}`}
      sample={shown(here)}
      other={shown(beside)}
      firstMode={there.length > 1 ? "wipe" : "single"}
      keys={{ ArrowLeft: () => go(-1), ArrowRight: () => go(1) }}
      onClose={onClose}
      foot={(mode) => (
        <>
          <p className="viewer-prompt">{prompt}</p>
          <div className="row">
            <span className="inline-field">
              Run <Segmented label="Run" options={names} value={String(here)} onChange={(place) => onMove(Number(place))} />
            </span>
            {mode !== "single" && (
              <span className="inline-field">
                with <Segmented label="Compare with" options={names} value={String(beside)} onChange={(place) => setAgainst(Number(place))} />
              </span>
            )}
            {foot}
          </div>
        </>
      )}
    />
  );
}
