/** Proposed captions beside those that there are: edited, accepted and skipped, and all of it taken back. */
import { useEffect, useState } from "react";
import { Link } from "wouter";
import { Button } from "../../components/Button";
import { Empty, ErrorCard, Waiting } from "../../components/Page";
import { useToast } from "../../components/Toasts";
import type { Decided, JobDetail, ProposalRow, Proposals } from "../../generated/api";
import { count } from "../../lib/format";
import { isLive } from "../../lib/states";
import { ProposalCard } from "./ProposalCard";
import { useDecide, useProposals, useTakeBack } from "./requests";
import "./captioning.css";

export function ReviewView({ job }: { job: JobDetail }) {
  const { data, error, refetch } = useProposals(job.id);
  const done = job.progress?.done;
  useEffect(() => void refetch({ cancelRefetch: false }), [done, job.state, refetch]); // one more is proposed
  if (error && !data) return <ErrorCard error={error} title="Couldn’t load the captions" />;
  if (!data) return <Waiting what="Loading captions" />;
  if (!data.num_made)
    return (
      <Empty title="No captions are proposed yet.">
        <p>{isLive(job.state) || job.queue_position != null ? "They appear here one after another." : "Start the job to get some."}</p>
      </Empty>
    );
  return <Review id={job.id} found={data} />;
}

function Review({ id, found }: { id: string; found: Proposals }) {
  const [edits, setEdits] = useState<ReadonlyMap<string, string>>(new Map());
  const decide = useDecide(id);
  const takeBack = useTakeBack();
  const toast = useToast();
  const { rows, total, num_made, dataset, folder } = found;
  const textOf = (row: ProposalRow) => edits.get(row.image) ?? row.text;
  const unchanged = rows.filter((row) => !row.is_conflict && textOf(row).trim());
  const accept = (chosen: ProposalRow[]) =>
    decide.mutate(
      chosen.map((row) => ({ image: row.image, action: "accept", text: textOf(row), if_match: row.tag })),
      { onSuccess: (answer) => toast({ text: wordsOf(answer), action: wayBack(answer) }) },
    );
  const wayBack = ({ dataset: place, undo }: Decided) =>
    place && undo ? { label: "Undo", run: () => takeBack.mutate({ dataset: place, step: undo.id }) } : undefined;
  const skip = (row: ProposalRow) => {
    const reopen = () => decide.mutate([{ image: row.image, action: "reopen", text: row.text, if_match: "" }]);
    decide.mutate([{ image: row.image, action: "skip", text: "", if_match: "" }], {
      onSuccess: () => toast({ text: `${row.image} skipped.`, action: { label: "Undo", run: reopen } }),
    });
  };
  return (
    <section aria-label="Proposed captions">
      <div className="row review-head">
        <Button look="primary" icon="check" disabled={!unchanged.length} busy={decide.isPending} onClick={() => accept(unchanged)}>
          Accept all shown ({unchanged.length})
        </Button>
        <span className="hint figure" role="status">
          {total.toLocaleString("en")} of {count(num_made, "proposal")} open
        </span>
        {dataset && <Link href={`/datasets/${dataset}`}>To the dataset</Link>}
      </div>
      {rows.length ? (
        <ul className="proposals">
          {rows.map((row) => (
            <ProposalCard
              key={row.image}
              row={row}
              text={textOf(row)}
              isBusy={decide.isPending}
              onEdit={(text) => setEdits(new Map(edits).set(row.image, text))}
              onAccept={() => accept([row])}
              onSkip={() => skip(row)}
            />
          ))}
        </ul>
      ) : (
        <Empty title="No proposals are open.">
          <p>{dataset ? "Captions can be edited further on the page of the dataset." : `${folder} no longer exists or contains no pictures.`}</p>
        </Empty>
      )}
    </section>
  );
}

function wordsOf({ num_written, kept }: Decided): string {
  const changed = kept.length ? ` ${count(kept.length, "caption")} changed in the meantime and kept.` : "";
  return `${count(num_written, "caption")} written.${changed}`;
}
