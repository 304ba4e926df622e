/** A new draft with the same settings under another name. */
import { useState, type FormEvent } from "react";
import { useLocation } from "wouter";
import { Button } from "../../../components/Button";
import { Dialog } from "../../../components/Dialog";
import { useAction } from "../../../hooks/useActions";
import type { JobDetail } from "../../../generated/api";

export function CloneDialog({ job, onClose }: { job: JobDetail; onClose: () => void }) {
  const [name, setName] = useState(`${job.name}_2`);
  const act = useAction();
  const [, navigate] = useLocation();
  const submit = (event: FormEvent) => {
    event.preventDefault();
    act.mutate(
      { id: job.id, action: "clone", body: { name } },
      { onSuccess: ({ id }) => (onClose(), navigate(`/jobs/${id}/edit`)) },
    );
  };
  return (
    <Dialog title="Clone job" onClose={onClose}>
      <form onSubmit={submit}>
        <label className="field">
          <span className="field-name">New job name</span>
          <input value={name} onChange={(event) => setName(event.target.value)} required autoFocus />
          <span className="hint">The copy opens as a draft. Nothing starts yet.</span>
        </label>
        <footer className="row-end">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" look="primary" busy={act.isPending}>
            Create draft
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
