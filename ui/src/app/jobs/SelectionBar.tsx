/** What can be done with all selected jobs at once. */
import { Link } from "wouter";
import { Icon } from "../../components/Icon";
import { Button } from "../../components/Button";
import { useToast } from "../../components/Toasts";
import { useAction, useDeleteJob } from "../../hooks/useActions";
import type { JobRow } from "../../generated/api";
import { comparePath, MOST_RUNS } from "../../lib/jobsList";
import { count } from "../../lib/format";
import { isLive } from "../../lib/states";

export function SelectionBar({ jobs, onDone }: { jobs: JobRow[]; onDone: () => void }) {
  const act = useAction();
  const remove = useDeleteJob();
  const toast = useToast();
  const live = jobs.filter((job) => isLive(job.state));
  const still = jobs.filter((job) => !isLive(job.state) && job.state !== "elsewhere");
  const compared = jobs.filter((job) => (job.progress?.step ?? 0) > 0);
  const each = async (some: JobRow[], run: (job: JobRow) => Promise<unknown>, done: string) => {
    const results = await Promise.allSettled(some.map(run));
    const num = results.filter((result) => result.status === "fulfilled").length;
    if (num) toast({ text: `${count(num, "job")} ${done}.` });
    onDone();
  };
  return (
    <div className="selection-bar" role="region" aria-label="Selected jobs">
      <strong className="figure">{jobs.length} selected</strong>
      <Button
        icon="play"
        disabled={!still.length}
        onClick={() => each(still, (job) => act.mutateAsync({ id: job.id, action: "start" }), "queued")}
      >
        Start
      </Button>
      <Button
        icon="stop"
        disabled={!live.length}
        onClick={() => each(live, (job) => act.mutateAsync({ id: job.id, action: "stop" }), "stopping; progress will be saved")}
      >
        Stop and save
      </Button>
      {compared.length > 1 && compared.length <= MOST_RUNS && (
        <Link href={comparePath(compared.map(({ id }) => id))} className="button button-plain">
          <Icon name="chart" /> <span>Compare</span>
        </Link>
      )}
      <Button
        icon="trash"
        look="danger"
        disabled={!still.length}
        onClick={() => each(still, (job) => remove.mutateAsync(job.id), "moved to trash")}
      >
        Move to trash
      </Button>
      <Button look="quiet" onClick={onDone}>
        Clear selection
      </Button>
    </div>
  );
}
