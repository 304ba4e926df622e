/** Go on: from which checkpoint, to how many steps, and what that changes or moves aside. */
import { useState, type FormEvent } from "react";
import { Button } from "../../../components/Button";
import { Dialog } from "../../../components/Dialog";
import { ProblemList } from "../../../components/Problems";
import { useCheckpoints } from "../../../hooks/queries";
import { useAction } from "../../../hooks/useActions";
import type { Checkpoint, JobDetail } from "../../../generated/api";
import { ApiError } from "../../../lib/api";
import { ago, count } from "../../../lib/format";

interface Props {
  job: JobDetail;
  onClose: () => void;
  from?: number;
}

export function ResumeDialog({ job, onClose, from }: Props) {
  const checkpoints = useCheckpoints(job.id);
  const valid = (checkpoints.data?.checkpoints ?? []).filter((each) => each.is_valid && each.has_state);
  const [chosen, setChosen] = useState<number | null>(from ?? null);
  const step = chosen ?? valid[0]?.step ?? 0;
  const total = job.progress?.total_steps ?? 0;
  const [steps, setSteps] = useState("");
  const act = useAction();
  const refusal = act.error instanceof ApiError && act.error.status === 409 ? act.error.problems : [];
  const submit = (event: FormEvent) => {
    event.preventDefault();
    const body = { checkpoint: chosen, steps: steps ? Number(steps) : null, accept: refusal.length > 0 };
    act.mutate({ id: job.id, action: "resume", body }, { onSuccess: onClose });
  };
  const isAtEnd = total > 0 && step >= total && !(Number(steps) > step);
  return (
    <Dialog title={`Resume ${job.name}`} onClose={onClose}>
      <form onSubmit={submit}>
        <label className="field">
          <span className="field-name">Checkpoint</span>
          <select value={step} onChange={(event) => setChosen(Number(event.target.value))} disabled={!valid.length}>
            {valid.map((each) => (
              <option key={each.step} value={each.step}>
                Step {each.step.toLocaleString("en")}, saved {ago(each.time)}
              </option>
            ))}
            {!valid.length && <option value={0}>From the start (no valid checkpoint)</option>}
          </select>
          <Aside later={valid.filter((each) => each.step > step)} />
        </label>
        <label className="field">
          <span className="field-name">Train to step</span>
          <input
            type="number"
            min={step + 1}
            max={10_000_000}
            placeholder={total ? String(total) : ""}
            value={steps}
            onChange={(event) => setSteps(event.target.value)}
            required={isAtEnd}
          />
          <span className="hint">
            {isAtEnd ? "This checkpoint is already at the last step. Enter a higher number to keep training." : `Leave empty to train to step ${total.toLocaleString("en")}, as set in the job.`}
          </span>
        </label>
        {refusal.length > 0 && (
          <div role="alert">
            <p>These settings have changed since this checkpoint and will affect training:</p>
            <ProblemList problems={refusal} />
          </div>
        )}
        <footer className="row-end">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" look="primary" icon="play" busy={act.isPending}>
            {refusal.length ? "Resume anyway" : "Resume"}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}

function Aside({ later }: { later: Checkpoint[] }) {
  if (!later.length) return <span className="hint">This is the newest checkpoint, so nothing is moved.</span>;
  return (
    <span className="hint">
      {count(later.length, "later checkpoint")} ({later.map((each) => `step ${each.step.toLocaleString("en")}`).join(", ")}) and
      the samples drawn since will be moved to the “superseded” folder.
    </span>
  );
}
