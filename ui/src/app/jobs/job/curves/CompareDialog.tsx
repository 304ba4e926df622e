/** Which other runs stand in the charts: a ghost that is found anew for each job, and up to three of one's choice. */
import { Button } from "../../../../components/Button";
import { Dialog } from "../../../../components/Dialog";
import { RunList } from "../../../../components/RunList";
import { Segmented } from "../../../../components/Segmented";
import type { useCompared } from "../../../../hooks/useOverlays";
import type { JobRow } from "../../../../generated/api";
import { comparable, ghostOf, GHOSTS, MOST_OVERLAYS } from "../../../../lib/overlays";

interface Props {
  job: JobRow;
  compared: ReturnType<typeof useCompared>;
  onClose: () => void;
}

export function CompareDialog({ job, compared, onClose }: Props) {
  const { jobs, ids, choose, ghost, setGhost } = compared;
  const ghostJob = ghostOf(ghost, jobs, job);
  return (
    <Dialog title="Compare charts" onClose={onClose} actions={<Button onClick={onClose}>Back to charts</Button>}>
      <div className="compare">
        <section aria-label="Ghost">
          <h3>Ghost</h3>
          <Segmented label="Ghost" options={GHOSTS} value={ghost} onChange={setGhost} />
          <p className="hint" role="status">
            {ghost === "none"
              ? "Shows an earlier run with the same model and images as a dashed line in the charts of every job."
              : ghostJob
                ? `For this job: ${ghostJob.name}.`
                : `No ${ghost === "best" ? "finished" : "earlier"} run with the same model and images.`}
          </p>
        </section>
        <section aria-label="Other runs">
          <h3>Other runs, up to {MOST_OVERLAYS}</h3>
          <RunList runs={comparable(jobs, job)} chosen={ids} most={MOST_OVERLAYS} onChoose={choose} />
        </section>
      </div>
    </Dialog>
  );
}
