/** Checkpoints: whether each is valid, how it looks, and what can be done with it. */
import { useState } from "react";
import { Link } from "wouter";
import { Button } from "../../../components/Button";
import { Icon } from "../../../components/Icon";
import { Empty, ErrorCard, Waiting } from "../../../components/Page";
import { Thumb } from "../../../components/Thumb";
import { useToast } from "../../../components/Toasts";
import { useDeleteCheckpoint } from "../../../hooks/useActions";
import { useCheckpoints } from "../../../hooks/queries";
import type { Checkpoint, JobDetail } from "../../../generated/api";
import { fileUrl } from "../../../lib/api";
import { ago, bytes } from "../../../lib/format";
import { KeepDialog } from "../../tryout/KeepDialog";
import { AsideCard } from "./AsideCard";
import { ResumeDialog } from "./ResumeDialog";

export function CheckpointsTab({ job }: { job: JobDetail }) {
  const { data, error } = useCheckpoints(job.id);
  const [from, setFrom] = useState<number | null>(null);
  const [kept, setKept] = useState<Checkpoint | null>(null);
  if (error && !data) return <ErrorCard error={error} title="Couldn’t load the checkpoints" />;
  if (!data) return <Waiting what="Verifying checkpoints" />;
  if (!data.checkpoints.length)
    return (
      <>
        <Empty title="No checkpoints yet.">
          <p>Checkpoints are saved during training. “Save now” saves one after the current step.</p>
        </Empty>
        <AsideCard job={job} />
      </>
    );
  return (
    <>
      <div className="row checkpoints-head">
        <Link href={`/tryout?run=${job.id}`} className="button button-plain">
          <Icon name="picture" /> <span>Try these out</span>
        </Link>
        {job.runs.length > 0 && (
          <a className="button button-plain" href={`/files/jobs/${job.id}/report`} target="_blank" rel="noreferrer">
            <Icon name="chart" /> <span>Report</span>
          </a>
        )}
      </div>
      {job.best && <p className="checkpoints-best">{job.best}</p>}
      <ul className="checkpoints">
        {data.checkpoints.map((checkpoint) => (
          <li key={checkpoint.path} className="card">
            <Row job={job} checkpoint={checkpoint} onResume={() => setFrom(checkpoint.step)} onKeep={() => setKept(checkpoint)} />
          </li>
        ))}
      </ul>
      <AsideCard job={job} />
      {kept && <KeepDialog path={kept.path} first={`${job.name}_step_${kept.step}`} onClose={() => setKept(null)} />}
      {from !== null && <ResumeDialog job={job} from={from} onClose={() => setFrom(null)} />}
    </>
  );
}

interface RowProps {
  job: JobDetail;
  checkpoint: Checkpoint;
  onResume: () => void;
  onKeep: () => void;
}

function Row({ job, checkpoint, onResume, onKeep }: RowProps) {
  const remove = useDeleteCheckpoint();
  const toast = useToast();
  const canResume = job.controls.actions.includes("resume") && checkpoint.is_valid && checkpoint.has_state;
  const copy = async () => {
    await navigator.clipboard.writeText(checkpoint.path);
    toast({ text: "Path copied. For ComfyUI, copy the file to models/loras." });
  };
  return (
    <>
      <div className="checkpoint-strip">
        {(checkpoint.samples.length ? checkpoint.samples : [null]).map((file, place) => (
          <Thumb key={file ?? place} file={file} alt={`Sample ${place + 1} at step ${checkpoint.step}`} />
        ))}
      </div>
      <div className="checkpoint-text">
        <strong className="figure">
          Step {checkpoint.step.toLocaleString("en")} {checkpoint.is_final && <span className="pill">final</span>}{" "}
          {checkpoint.mark && (
            <span className={`pill ${checkpoint.mark === "best" ? "tone-good" : ""}`}>{checkpoint.mark === "best" ? "best by validation" : "as good as the best"}</span>
          )}
        </strong>
        <span className={`state tone-${checkpoint.is_valid ? "good" : "bad"}`}>
          <Icon name={checkpoint.is_valid ? "check" : "cross"} />
          {checkpoint.is_valid ? "Valid" : "Invalid"}
        </span>
        <span className="hint figure">
          {bytes(checkpoint.num_bytes)} · saved {ago(checkpoint.time)}
          {!checkpoint.has_state && " · weights only"}
        </span>
        {checkpoint.validation && <span className="figure">{checkpoint.validation}</span>}
        {checkpoint.why && <span className="reason">{checkpoint.why}</span>}
        <code className="path">{checkpoint.path}</code>
      </div>
      <div className="row checkpoint-actions">
        {checkpoint.file && (
          <a className="button button-plain" href={fileUrl(checkpoint.file, { download: true })} download>
            <Icon name="download" /> <span>Download</span>
          </a>
        )}
        <Button icon="copy" onClick={copy}>
          Copy path
        </Button>
        {checkpoint.file && (
          <>
            <Link href={`/tryout?run=${job.id}&steps=${checkpoint.step}`} className="button button-plain">
              <Icon name="picture" /> <span>Try out</span>
            </Link>
            <Button icon="star" onClick={onKeep}>
              Keep…
            </Button>
          </>
        )}
        {canResume && (
          <Button icon="play" onClick={onResume}>
            Resume from here…
          </Button>
        )}
        <Button
          icon="trash"
          look="danger"
          busy={remove.isPending}
          onClick={() =>
            remove.mutate(
              { id: job.id, step: checkpoint.step },
              { onSuccess: () => toast({ text: `Checkpoint at step ${checkpoint.step.toLocaleString("en")} moved to the “superseded” folder.` }) },
            )
          }
        >
          Delete
        </Button>
      </div>
    </>
  );
}
