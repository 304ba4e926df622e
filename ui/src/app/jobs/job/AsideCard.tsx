/** Checkpoints of a job that were set aside: the room they take, and a button that deletes them for good. */
import { useState } from "react";
import { Button } from "../../../components/Button";
import { EmptyDialog } from "../../../components/EmptyDialog";
import { useAside } from "../../../hooks/queries";
import { useEmptyAside } from "../../../hooks/useActions";
import type { JobDetail } from "../../../generated/api";
import { bytes } from "../../../lib/format";
import { isLive } from "../../../lib/states";

export function AsideCard({ job }: { job: JobDetail }) {
  const { data } = useAside(job.id);
  const empty = useEmptyAside();
  const [isAsking, setAsking] = useState(false);
  if (!data?.num_folders) return null;
  return (
    <section className="card" aria-label="Set aside">
      <p>
        Checkpoints that were deleted here or trained again are in the “superseded” folder:{" "}
        <span className="figure">{bytes(data.num_bytes)}</span>.
      </p>
      <Button icon="trash" look="danger" disabled={isLive(job.state)} onClick={() => setAsking(true)}>
        Empty…
      </Button>
      {isAsking && (
        <EmptyDialog
          title="Delete what was set aside?"
          words={`The checkpoints in the “superseded” folder (${bytes(data.num_bytes)}) will be removed for good.`}
          busy={empty.isPending}
          onEmpty={() => empty.mutate(job.id, { onSettled: () => setAsking(false) })}
          onClose={() => setAsking(false)}
        />
      )}
    </section>
  );
}
