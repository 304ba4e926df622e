/** Runs to choose from, with a search; no more of them than can be shown. */
import { useState } from "react";
import type { JobRow } from "../generated/api";
import { ago, figure } from "../lib/format";
import { filterJobs } from "../lib/jobsList";
import { Icon } from "./Icon";
import { StateBadge } from "./StateBadge";

const MOST_ROWS = 50;
const SEARCHED_FROM = 6;

interface Props {
  runs: JobRow[];
  chosen: readonly string[];
  most: number;
  onChoose: (ids: string[]) => void;
}

export function RunList({ runs, chosen, most, onChoose }: Props) {
  const [search, setSearch] = useState("");
  const found = filterJobs(runs, "all", search);
  const toggle = (id: string) => onChoose(chosen.includes(id) ? chosen.filter((each) => each !== id) : [...chosen, id]);
  return (
    <>
      {runs.length > SEARCHED_FROM && (
        <label className="search">
          <Icon name="search" />
          <span className="visually-hidden">Search runs</span>
          <input type="search" placeholder="Search runs" value={search} onChange={(event) => setSearch(event.target.value)} />
        </label>
      )}
      <ul className="compare-runs">
        {found.slice(0, MOST_ROWS).map((run) => (
          <li key={run.id}>
            <label className="check">
              <input
                type="checkbox"
                checked={chosen.includes(run.id)}
                disabled={!chosen.includes(run.id) && chosen.length >= most}
                onChange={() => toggle(run.id)}
              />
              <span className="compare-name">
                {run.name}
                <span className="hint figure">{factsOf(run)}</span>
              </span>
              <StateBadge state={run.state} />
            </label>
          </li>
        ))}
      </ul>
      {found.length > MOST_ROWS && <p className="hint">{found.length - MOST_ROWS} more. Search to find them.</p>}
      {!found.length && <p className="hint">{runs.length ? "No runs match your search." : "There is no other run yet."}</p>}
    </>
  );
}

function factsOf({ arch, dataset, progress, created }: JobRow): string {
  return [arch, dataset, `loss ${figure(progress?.recent_loss)}`, created > 0 && ago(created)].filter(Boolean).join(" · ");
}
