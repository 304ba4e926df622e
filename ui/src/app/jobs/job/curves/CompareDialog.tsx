/** Which other runs stand in the charts: a ghost that is found anew for each job, and up to three of one's choice. */
import { useState } from "react";
import { Button } from "../../../../components/Button";
import { Dialog } from "../../../../components/Dialog";
import { Icon } from "../../../../components/Icon";
import { Segmented } from "../../../../components/Segmented";
import { StateBadge } from "../../../../components/StateBadge";
import type { useCompared } from "../../../../hooks/useOverlays";
import type { JobRow } from "../../../../generated/api";
import { ago, figure } from "../../../../lib/format";
import { filterJobs } from "../../../../lib/jobsList";
import { comparable, ghostOf, GHOSTS, MOST_OVERLAYS } from "../../../../lib/overlays";

const MOST_ROWS = 50;

interface Props {
  job: JobRow;
  compared: ReturnType<typeof useCompared>;
  onClose: () => void;
}

export function CompareDialog({ job, compared, onClose }: Props) {
  const { jobs, ids, choose, ghost, setGhost } = compared;
  const [search, setSearch] = useState("");
  const others = comparable(jobs, job);
  const found = filterJobs(others, "all", search);
  const ghostJob = ghostOf(ghost, jobs, job);
  const toggle = (id: string) => choose(ids.includes(id) ? ids.filter((each) => each !== id) : [...ids, id]);
  return (
    <Dialog title="Compare charts" onClose={onClose} actions={<Button onClick={onClose}>Back to charts</Button>}>
      <div className="compare">
        <section aria-label="Ghost">
          <h3>Ghost</h3>
          <Segmented label="Ghost" options={GHOSTS} value={ghost} onChange={setGhost} />
          <p className="hint" role="status">
            {ghost === "none"
              ? "A dashed line of an earlier run with the same model and images, in the charts of every job."
              : ghostJob
                ? `For this job: ${ghostJob.name}.`
                : `No ${ghost === "best" ? "finished" : "earlier"} run with the same model and images.`}
          </p>
        </section>
        <section aria-label="Other runs">
          <h3>Other runs, up to {MOST_OVERLAYS}</h3>
          {others.length > 6 && (
            <label className="search">
              <Icon name="search" />
              <span className="visually-hidden">Search runs</span>
              <input type="search" placeholder="Search runs" value={search} onChange={(event) => setSearch(event.target.value)} />
            </label>
          )}
          <ul className="compare-runs">
            {found.slice(0, MOST_ROWS).map((other) => (
              <li key={other.id}>
                <label className="check">
                  <input
                    type="checkbox"
                    checked={ids.includes(other.id)}
                    disabled={!ids.includes(other.id) && ids.length >= MOST_OVERLAYS}
                    onChange={() => toggle(other.id)}
                  />
                  <span className="compare-name">
                    {other.name}
                    <span className="hint figure">{factsOf(other)}</span>
                  </span>
                  <StateBadge state={other.state} />
                </label>
              </li>
            ))}
          </ul>
          {found.length > MOST_ROWS && <p className="hint">{found.length - MOST_ROWS} more. Search to find them.</p>}
          {!found.length && <p className="hint">{others.length ? "No runs match your search." : "There is no other run yet."}</p>}
        </section>
      </div>
    </Dialog>
  );
}

function factsOf({ arch, dataset, progress, created }: JobRow): string {
  return [arch, dataset, `loss ${figure(progress?.recent_loss)}`, created > 0 && ago(created)].filter(Boolean).join(" · ");
}
