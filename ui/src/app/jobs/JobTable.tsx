/** The jobs as rows, of which only those in view are drawn: 500 are as quick as 5. */
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useRef, useState } from "react";
import { useLocation } from "wouter";
import { useKeys } from "../../hooks/useKeys";
import type { JobRow } from "../../generated/api";
import { JobTableRow } from "./JobTableRow";

interface Props {
  jobs: JobRow[];
  selected: ReadonlySet<string>;
  onSelect: (selected: ReadonlySet<string>) => void;
}

export function JobTable({ jobs, selected, onSelect }: Props) {
  const list = useRef<HTMLUListElement>(null);
  const [, navigate] = useLocation();
  const [current, setCurrent] = useState<number | null>(null);
  const rows = useWindowVirtualizer({
    count: jobs.length,
    estimateSize: () => 68,
    overscan: 12,
    scrollMargin: list.current?.offsetTop ?? 0,
    getItemKey: (place) => jobs[place]!.id,
  });
  const toggle = (id: string) => {
    const next = new Set(selected);
    if (!next.delete(id)) next.add(id);
    onSelect(next);
  };
  const go = (by: number) => {
    const next = Math.max(0, Math.min(jobs.length - 1, (current ?? (by > 0 ? -1 : jobs.length)) + by));
    setCurrent(next);
    rows.scrollToIndex(next);
  };
  useKeys({
    j: () => go(1),
    k: () => go(-1),
    x: () => current != null && jobs[current] && toggle(jobs[current].id),
    Enter: (event) => {
      const job = current == null ? undefined : jobs[current];
      if (job && !(event.target instanceof HTMLElement && event.target.closest("a, button"))) navigate(`/jobs/${job.id}`);
      else if (event.target instanceof HTMLElement) event.target.click();
    },
  });
  const isAll = jobs.length > 0 && jobs.every((job) => selected.has(job.id));
  return (
    <div className="job-table">
      <div className="job-head">
        <label className="check">
          <input
            type="checkbox"
            checked={isAll}
            onChange={() => onSelect(isAll ? new Set() : new Set(jobs.map((job) => job.id)))}
          />
          <span className="visually-hidden">Select all jobs shown</span>
        </label>
        <span>Job</span>
        <span>Status</span>
        <span>Progress</span>
        <span className="col-model">Model</span>
        <span className="col-time">Updated</span>
      </div>
      <ul ref={list} style={{ height: rows.getTotalSize() }} className="job-rows" aria-label="Jobs">
        {rows.getVirtualItems().map((item) => (
          <li
            key={item.key}
            data-index={item.index}
            ref={rows.measureElement}
            aria-setsize={jobs.length}
            aria-posinset={item.index + 1}
            style={{ transform: `translateY(${item.start - rows.options.scrollMargin}px)` }}
          >
            <JobTableRow
              job={jobs[item.index]!}
              isSelected={selected.has(jobs[item.index]!.id)}
              isCurrent={item.index === current}
              onToggle={toggle}
            />
          </li>
        ))}
      </ul>
    </div>
  );
}
