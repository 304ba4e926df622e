/** The runs of a comparison: the line of each in the charts, how far it is, what is said of it. */
import { Link } from "wouter";
import { StateBadge } from "../../components/StateBadge";
import type { ComparedRun, JobRow } from "../../generated/api";
import { figure } from "../../lib/format";
import { lookOf } from "../../lib/overlays";
import { Line } from "../jobs/job/curves/ChartCard";

export function RunHeads({ runs, compared }: { runs: JobRow[]; compared: ComparedRun[] | undefined }) {
  return (
    <ul className="compare-columns compare-heads" style={{ "--runs": runs.length } as React.CSSProperties}>
      {runs.map((run, place) => {
        const said = compared?.find(({ id }) => id === run.id);
        return (
          <li key={run.id} className="card">
            <p className="compare-head">
              <Line {...(place ? lookOf({ isGhost: false, place: place - 1 }) : { colour: "--series-0", dash: [] })} />
              <Link href={`/jobs/${run.id}`}>{run.name}</Link>
              <StateBadge state={run.state} />
            </p>
            <p className="hint figure">
              {[run.arch, run.kind, run.dataset].filter(Boolean).join(" · ")}
              <br />
              step {run.progress?.step.toLocaleString("en") ?? 0} of {run.progress?.total_steps.toLocaleString("en") ?? 0} · loss{" "}
              {figure(run.progress?.recent_loss)}
            </p>
            {said?.best && <p>{said.best}</p>}
            {run.note && <p className="compare-note">{run.note}</p>}
            {said?.problem && <p className="state tone-warn">Its settings can’t be compared. {said.problem}</p>}
          </li>
        );
      })}
    </ul>
  );
}
