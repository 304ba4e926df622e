/** Why a job is not running as it should: the message, what to do, then the log around it. */
import { Link } from "wouter";
import { ProblemList } from "../../../components/Problems";
import { Icon } from "../../../components/Icon";
import type { Failure, JobDetail } from "../../../generated/api";
import { visible } from "../../../lib/logText";

export function FailureCard({ job, failure }: { job: JobDetail; failure: Failure }) {
  return (
    <section className="card card-bad" aria-label="What went wrong">
      <h2>
        <Icon name="alert" /> {failure.message}
      </h2>
      {failure.remedy && <p>{failure.remedy}</p>}
      {failure.problems.length > 0 && <ProblemList problems={failure.problems} />}
      {failure.log && (
        <details>
          <summary>Log at that point</summary>
          <pre className="log-excerpt" tabIndex={0} aria-label="Log around the failure">
            {failure.log.split("\n").map(visible).join("\n")}
          </pre>
        </details>
      )}
      <p className="row">
        <Link href={`/jobs/${job.id}/edit`}>Edit job</Link>
        <Link href={`/jobs/${job.id}/log`}>View full log</Link>
      </p>
    </section>
  );
}
