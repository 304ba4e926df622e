/** What may spoil a training: looked for beside the server; each finding shows its pictures. */
import { useState, type FormEvent } from "react";
import { Button } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { ErrorCard, Waiting } from "../../components/Page";
import { Prose } from "../../components/Prose";
import { Progress } from "../../components/Progress";
import type { DatasetDetail, Doctor } from "../../generated/api";
import { ago, count, percent } from "../../lib/format";
import { useStartDoctor } from "./requests";

const SIZES = [512, 768, 1024, 1536];

interface Props {
  dataset: DatasetDetail;
  doctor: Doctor | undefined;
  error: unknown;
  /** kind of finding whose pictures are shown */
  kind: string;
  onKind: (kind: string) => void;
}

export function DoctorPanel({ dataset, doctor, error, kind, onKind }: Props) {
  const [isOpen, setOpen] = useState(() => window.innerWidth > 1000); // above the pictures, it must not hide them
  if (!dataset.num_pictures) return null;
  return (
    <section className="card doctor" aria-label="Doctor">
      <details open={isOpen} onToggle={(event) => setOpen(event.currentTarget.open)}>
        <summary>
          <h2>Doctor</h2>
        </summary>
        {doctor ? (
          <>
            <DoctorForm key={`${doctor.resolution} ${doctor.trigger_word}`} id={dataset.id} doctor={doctor} />
            {doctor.time !== null && <Findings doctor={doctor} kind={kind} onKind={onKind} />}
          </>
        ) : error ? <ErrorCard error={error} /> : <Waiting what="Loading" />}
      </details>
    </section>
  );
}

function DoctorForm({ id, doctor }: { id: string; doctor: Doctor }) {
  const [resolution, setResolution] = useState(doctor.resolution);
  const [word, setWord] = useState(doctor.trigger_word);
  const start = useStartDoctor(id);
  const isRunning = doctor.state === "running";
  const submit = (event: FormEvent) => {
    event.preventDefault();
    start.mutate({ resolution, trigger_word: word.trim() });
  };
  return (
    <form onSubmit={submit}>
      {doctor.time === null && !isRunning && (
        <p className="hint">Checks every picture and caption for problems that may harm training. It changes nothing.</p>
      )}
      <div className="doctor-fields">
        <label className="field">
          <span className="field-name">Resolution</span>
          <select value={resolution} onChange={(event) => setResolution(Number(event.target.value))}>
            {[...new Set([...SIZES, doctor.resolution])].toSorted((a, b) => a - b).map((size) => (
              <option key={size} value={size}>
                {size} px
              </option>
            ))}
          </select>
        </label>
        <label className="field">
          <span className="field-name">Trigger word</span>
          <input value={word} maxLength={200} placeholder="None" onChange={(event) => setWord(event.target.value)} />
        </label>
      </div>
      <div className="row">
        <Button type="submit" icon="search" look={doctor.time === null ? "primary" : "plain"} busy={isRunning || start.isPending}>
          {isRunning ? "Checking…" : doctor.time === null ? "Check the dataset" : "Check again"}
        </Button>
        <span className="hint figure" role="status">
          {isRunning ? doctor.total > 0 && percent(doctor.done / doctor.total) : doctor.time !== null && `Checked ${ago(doctor.time)}`}
        </span>
      </div>
      {isRunning && <Progress done={doctor.done} total={doctor.total} label="Pictures checked" />}
      {doctor.state === "failed" && (
        <p className="error-text" role="alert">
          The check failed: {doctor.message}
        </p>
      )}
      {doctor.is_stale && !isRunning && <p className="doctor-stale">Pictures or captions have changed since then. Check again for current findings.</p>}
    </form>
  );
}

function Findings({ doctor, kind, onKind }: { doctor: Doctor; kind: string; onKind: (kind: string) => void }) {
  const isSound = !doctor.kinds.length && !doctor.problems.length;
  return (
    <>
      {isSound && (
        <p className="verdict tone-good">
          <Icon name="check" /> <span>No problems found that would harm training.</span>
        </p>
      )}
      {doctor.problems.length > 0 && (
        <>
          <h3>Training can’t start with</h3>
          <List lines={doctor.problems} />
        </>
      )}
      <ul className="finding-kinds">
        {doctor.kinds.map((each) => (
          <li key={each.kind} className={`tone-${each.severity === "error" ? "bad" : "warn"}`}>
            <button type="button" aria-pressed={kind === each.kind} onClick={() => onKind(kind === each.kind ? "" : each.kind)}>
              <span className="pill figure">{each.count}</span> <strong>{each.title}</strong>
            </button>
            <p className="hint">
              <Prose text={each.advice} />
            </p>
          </li>
        ))}
      </ul>
      {doctor.everywhere.length > 0 && (
        <>
          <h3>In most captions</h3>
          <p className="hint">Learned as if it were the trigger word. Vary it, or remove it.</p>
          <ul className="badges">
            {doctor.everywhere.map(({ text, count: number }) => (
              <li key={text} className="pill">
                {text} <span className="figure">{number}</span>
              </li>
            ))}
          </ul>
        </>
      )}
      {doctor.notices.length > 0 && (
        <details className="fold">
          <summary>Worth knowing ({doctor.notices.length})</summary>
          <List lines={doctor.notices} />
        </details>
      )}
      {doctor.buckets.length > 0 && <Buckets doctor={doctor} />}
    </>
  );
}

function Buckets({ doctor }: { doctor: Doctor }) {
  const most = Math.max(...doctor.buckets.map((bucket) => bucket.count));
  const [least, middle] = doctor.kept;
  return (
    <details className="fold">
      <summary>
        Sizes at {doctor.resolution} px ({count(doctor.buckets.length, "bucket")})
      </summary>
      {least !== undefined && middle !== undefined && (
        <p className="hint figure">
          {least > 0.995 ? "Crops keep every picture whole." : `Crops keep ${percent(middle)} of a typical picture, and at least ${percent(least)}.`}
        </p>
      )}
      <table className="table buckets">
        <thead>
          <tr>
            <th scope="col">Size</th>
            <th scope="col" className="num">
              Pictures
            </th>
            <th scope="col">
              <span className="visually-hidden">Share</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {doctor.buckets.map(({ width, height, count: number }) => (
            <tr key={`${width}x${height}`}>
              <th scope="row" className="figure">
                {width} × {height}
              </th>
              <td className="num">{number}</td>
              <td className="bucket-bar">
                <span style={{ width: `${(100 * number) / most}%` }} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}

function List({ lines }: { lines: string[] }) {
  return (
    <ul className="findings">
      {lines.map((line) => (
        <li key={line}>
          <Prose text={line} />
        </li>
      ))}
    </ul>
  );
}
