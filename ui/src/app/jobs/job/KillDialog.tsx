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
      title="Force stop?"
      onClose={onClose}
      actions={
        <>
          <Button onClick={onClose}>Keep running</Button>
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
      <p>
        Nothing will be saved, and all steps since the last checkpoint will be lost. To keep them, use “{stopLabel(job)}”
        instead.
      </p>
    </Dialog>
  );
}
