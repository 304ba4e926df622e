/** One job in the list. */
import { memo } from "react";
import { Link } from "wouter";
import { JobProgress } from "../../components/JobProgress";
import { StateBadge } from "../../components/StateBadge";
import { Thumb } from "../../components/Thumb";
import type { JobRow } from "../../generated/api";
import { ago } from "../../lib/format";

interface Props {
  job: JobRow;
  isSelected: boolean;
  isCurrent: boolean;
  onToggle: (id: string) => void;
}

export const JobTableRow = memo(function JobTableRow({ job, isSelected, isCurrent, onToggle }: Props) {
  const origin = [job.dataset, job.gpu != null && `GPU ${job.gpu}`, job.is_external && "started in a terminal"];
  return (
    <div className={`job-row ${isSelected ? "is-selected" : ""} ${isCurrent ? "is-current" : ""}`}>
      <label className="check">
        <input type="checkbox" checked={isSelected} onChange={() => onToggle(job.id)} />
        <span className="visually-hidden">Select {job.name}</span>
      </label>
      <Link href={`/jobs/${job.id}`} className="job-name">
        <Thumb file={job.thumb} alt="" />
        <span>
          <strong>{job.name}</strong>
          <span className="hint">{origin.filter(Boolean).join(" · ") || job.output_folder}</span>
        </span>
      </Link>
      <span className="job-state">
        <StateBadge state={job.state} />
        <span className="reason" title={job.reason}>
          {job.reason}
        </span>
      </span>
      <span className="col-progress">
        <JobProgress job={job} />
      </span>
      <span className="col-model">
        {job.arch ?? "–"}
        <span className="hint">{job.kind}</span>
      </span>
      <span className="col-time hint figure">{ago(job.updated)}</span>
    </div>
  );
});
