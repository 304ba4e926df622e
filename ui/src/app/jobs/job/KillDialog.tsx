/** Ends the process without a save: asks, because nothing brings the steps back. */
import { Button } from "../../../components/Button";
import { Dialog } from "../../../components/Dialog";
import { useAction } from "../../../hooks/useActions";
import type { JobDetail } from "../../../generated/api";
import { stopLabel } from "../../../lib/states";

export function KillDialog({ job, onClose }: { job: JobDetail; onClose: () => void }) {
  const act = useAction();
  return (
    <Dialog
      title="Stop at once"
      onClose={onClose}
      actions={
        <>
          <Button onClick={onClose}>Let it run</Button>
          <Button
            look="danger"
            icon="bolt"
            busy={act.isPending}
            onClick={() => act.mutate({ id: job.id, action: "kill" }, { onSuccess: onClose })}
          >
            Stop without saving
          </Button>
        </>
      }
    >
      <p>Nothing is saved: steps since the last checkpoint are lost. “{stopLabel(job)}” loses none.</p>
    </Dialog>
  );
}
