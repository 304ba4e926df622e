/** What a step has trained on; and of one of its pictures, in which steps it was. */
import { useState } from "react";
import { ErrorCard, Waiting } from "../../../components/Page";
import { Thumb } from "../../../components/Thumb";
import type { JobDetail, Seen } from "../../../generated/api";
import { useSeen } from "../../../hooks/queries";
import { count, percent } from "../../../lib/format";

const MOST_SHOWN = 200;

export function SeenFold({ job }: { job: JobDetail }) {
  const [isOpen, setOpen] = useState(false);
  const last = job.progress?.step ?? 0;
  if (!last) return null;
  return (
    <details className="fold" onToggle={(event) => setOpen(event.currentTarget.open)}>
      <summary>What a step trains on</summary>
      {isOpen && <Steps id={job.id} last={last} />}
    </details>
  );
}

function Steps({ id, last }: { id: string; last: number }) {
  const [step, setStep] = useState(last);
  const [picture, setPicture] = useState("");
  const { data, error } = useSeen(id, step, picture);
  return (
    <div className="seen">
      <label className="inline-field">
        Step
        <input type="number" min={1} max={last} value={step} onChange={(event) => setStep(Math.min(last, Math.max(1, Math.round(Number(event.target.value)))))} />
        <span className="hint figure">of {last.toLocaleString("en")}</span>
      </label>
      {data ? <Pictures seen={data} picture={picture} onPicture={setPicture} onStep={setStep} /> : error ? <ErrorCard error={error} /> : <Waiting what="Looking through the dataset" />}
    </div>
  );
}

interface PicturesProps {
  seen: Seen;
  picture: string;
  onPicture: (picture: string) => void;
  onStep: (step: number) => void;
}

function Pictures({ seen, picture, onPicture, onStep }: PicturesProps) {
  return (
    <>
      {seen.is_same === false && <p className="tone-warn">The dataset has changed since the last checkpoint: this shows the steps as they would be with the current pictures.</p>}
      <ul className="strip seen-pictures" aria-label={`Pictures of step ${seen.step}`}>
        {seen.pictures.map(({ name, file, times }) => (
          <li key={file ?? name}>
            <button type="button" aria-pressed={file === picture} disabled={!file} title={name} onClick={() => onPicture(file === picture ? "" : file!)}>
              <Thumb file={file && `datasets/${file}`} alt={name} />
              {times > 1 && <span className="pill figure">{times} ×</span>}
            </button>
          </li>
        ))}
      </ul>
      {picture ? <StepsOf seen={seen} onStep={onStep} /> : <p className="hint">Choose a picture to see every step that trained on it.</p>}
    </>
  );
}

function StepsOf({ seen, onStep }: { seen: Seen; onStep: (step: number) => void }) {
  return (
    <>
      <p role="status">
        In {count(seen.num_steps, "step")} of {seen.last_step.toLocaleString("en")} ({percent(seen.num_steps / Math.max(1, seen.last_step))})
      </p>
      <p className="seen-steps figure">
        {seen.steps.slice(0, MOST_SHOWN).map((step) => (
          <button key={step} type="button" className="link" onClick={() => onStep(step)}>
            {step}
          </button>
        ))}
        {seen.num_steps > MOST_SHOWN && <span className="hint">and {(seen.num_steps - MOST_SHOWN).toLocaleString("en")} more</span>}
      </p>
    </>
  );
}
