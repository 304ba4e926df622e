/** Deleted jobs: the room they take, and a button that deletes them for good. */
import { useState } from "react";
import { Button } from "../../components/Button";
import { EmptyDialog } from "../../components/EmptyDialog";
import { ErrorCard, Waiting } from "../../components/Page";
import { useTrash } from "../../hooks/queries";
import { useEmptyTrash } from "../../hooks/useActions";
import { ago, bytes, count } from "../../lib/format";

export function TrashCard() {
  const { data, error } = useTrash();
  const empty = useEmptyTrash();
  const [isAsking, setAsking] = useState(false);
  return (
    <section className="card" aria-label="Trash">
      <h2>Trash</h2>
      {error ? <ErrorCard error={error} /> : !data ? <Waiting what="Measuring the trash" /> : (
        <>
          <p className="figure">
            {data.num_jobs
              ? `${count(data.num_jobs, "deletion")}, ${bytes(data.num_bytes)}${data.oldest == null ? "" : `, the first ${ago(data.oldest)}`}`
              : "The trash is empty."}
          </p>
          {data.folders.map((folder) => (
            <code key={folder} className="path">{folder}</code>
          ))}
          <p className="hint">Deleted jobs, datasets and pictures are kept for {data.days} days, then removed for good.</p>
          {data.num_jobs > 0 && (
            <Button icon="trash" look="danger" onClick={() => setAsking(true)}>
              Empty trash…
            </Button>
          )}
          {isAsking && (
            <EmptyDialog
              title="Empty the trash?"
              words={`What was deleted (${bytes(data.num_bytes)}) will be removed for good: jobs with their checkpoints and samples, datasets and pictures.`}
              busy={empty.isPending}
              onEmpty={() => empty.mutate(undefined, { onSettled: () => setAsking(false) })}
              onClose={() => setAsking(false)}
            />
          )}
        </>
      )}
    </section>
  );
}
