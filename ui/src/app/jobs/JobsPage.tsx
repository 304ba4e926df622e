/** All jobs: filter, search, queue, and what can be done with several at once. */
import { useMemo, useState } from "react";
import { Link } from "wouter";
import { Icon } from "../../components/Icon";
import { Empty, ErrorCard, Page, Waiting } from "../../components/Page";
import { useJobs } from "../../hooks/queries";
import type { JobList } from "../../generated/api";
import { count } from "../../lib/format";
import { countGroups, filterJobs, inOrder } from "../../lib/jobsList";
import { GROUPS, type Group } from "../../lib/states";
import { JobTable } from "./JobTable";
import { QueuePanel } from "./QueuePanel";
import { SelectionBar } from "./SelectionBar";

export function JobsPage() {
  const { data, error } = useJobs();
  return (
    <Page
      title="Jobs"
      actions={
        <Link href="/jobs/new" className="button button-primary">
          <Icon name="plus" /> <span>New job</span>
        </Link>
      }
    >
      {data ? <Jobs list={data} /> : error ? <ErrorCard error={error} title="Couldn’t load the jobs" /> : <Waiting what="Loading jobs" />}
    </Page>
  );
}

function Jobs({ list }: { list: JobList }) {
  const [group, setGroup] = useState<Group>("all");
  const [search, setSearch] = useState("");
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const counts = useMemo(() => countGroups(list.jobs), [list]);
  const shown = useMemo(() => inOrder(filterJobs(list.jobs, group, search)), [list, group, search]);
  if (!list.jobs.length)
    return (
      <Empty title="No jobs yet.">
        <p>Runs started in a terminal show up here too, if their output folder is inside one of the server’s root folders.</p>
        <Link href="/jobs/new">Create a job</Link>
      </Empty>
    );
  return (
    <>
      <QueuePanel list={list} />
      <div className="filters">
        <fieldset className="segmented">
          <legend className="visually-hidden">Show</legend>
          {(Object.keys(GROUPS) as Group[]).map((key) => (
            <label key={key}>
              <input type="radio" name="group" checked={key === group} onChange={() => setGroup(key)} />
              <span>
                {GROUPS[key]} <span className="figure hint">{counts[key]}</span>
              </span>
            </label>
          ))}
        </fieldset>
        <label className="search">
          <Icon name="search" />
          <span className="visually-hidden">Search jobs</span>
          <input
            type="search"
            placeholder="Name, model, dataset or status"
            value={search}
            onChange={(event) => setSearch(event.target.value)}
          />
        </label>
        <span className="hint figure" role="status">
          {count(shown.length, "job")}
        </span>
      </div>
      {selected.size > 0 && (
        <SelectionBar jobs={list.jobs.filter((job) => selected.has(job.id))} onDone={() => setSelected(new Set())} />
      )}
      {shown.length ? (
        <JobTable jobs={shown} selected={selected} onSelect={setSelected} />
      ) : (
        <Empty title="No jobs match this filter.">
          <button type="button" className="link" onClick={() => (setGroup("all"), setSearch(""))}>
            Show all jobs
          </button>
        </Empty>
      )}
    </>
  );
}
