/** A job as a card: its newest picture, its state in words, how far it is. */
import { Link } from "wouter";
import type { JobRow } from "../generated/api";
import { JobProgress } from "./JobProgress";
import { StateBadge } from "./StateBadge";
import { Thumb } from "./Thumb";

/** @param note below the reason, such as when it starts. */
export function JobCard({ job, note }: { job: JobRow; note?: string }) {
  return (
    <Link href={`/jobs/${job.id}`} className="job-card">
      <Thumb file={job.thumb} alt={`Latest sample of ${job.name}`} />
      <span className="job-card-text">
        <span className="job-card-head">
          <strong>{job.name}</strong>
          <StateBadge state={job.state} />
        </span>
        <span className="reason">{job.reason}</span>
        {note && <span className="hint figure">{note}</span>}
        <JobProgress job={job} />
      </span>
    </Link>
  );
}
