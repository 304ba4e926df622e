/** The job as it was written, and how it differs from its last run or from another job. */
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { Button } from "../../../components/Button";
import { ErrorCard, Waiting } from "../../../components/Page";
import { useToast } from "../../../components/Toasts";
import { useFormSchema, useJobs } from "../../../hooks/queries";
import type { Differences, JobDetail } from "../../../generated/api";
import { call } from "../../../lib/api";
import { fieldAt } from "../../../lib/form";
import { saveFile } from "../../../lib/download";

export function SettingsTab({ job }: { job: JobDetail }) {
  const toast = useToast();
  const copy = () => navigator.clipboard.writeText(job.yaml).then(() => toast({ text: "Copied to clipboard." }));
  return (
    <>
      <DiffSection job={job} />
      <section aria-label="Job file">
        <div className="filters">
          <h2>Job file</h2>
          <span className="push row">
            <Button icon="copy" look="quiet" onClick={copy}>
              Copy
            </Button>
            <Button icon="download" look="quiet" onClick={() => saveFile(`${job.name}.yaml`, new Blob([job.yaml]))}>
              Download
            </Button>
            <Link href={`/jobs/${job.id}/edit`} className="button button-plain">
              Edit
            </Link>
          </span>
        </div>
        <pre className="yaml-read" tabIndex={0} aria-label="Job as YAML">
          {job.yaml || "The job file for this run is not available."}
        </pre>
      </section>
    </>
  );
}

function DiffSection({ job }: { job: JobDetail }) {
  const [other, setOther] = useState("");
  const jobs = useJobs();
  const diff = useQuery({
    queryKey: ["job", job.id, "diff", other, job.yaml],
    queryFn: ({ signal }) =>
      call<Differences>("GET", `/api/jobs/${job.id}/diff${other ? `?other=${other}` : ""}`, undefined, signal),
  });
  return (
    <section aria-label="Changes">
      <div className="filters">
        <h2>Changes</h2>
        <label className="inline-field">
          compared with
          <select value={other} onChange={(event) => setOther(event.target.value)}>
            <option value="">its last run</option>
            {(jobs.data?.jobs ?? [])
              .filter((each) => each.id !== job.id)
              .map((each) => (
                <option key={each.id} value={each.id}>
                  {each.name}
                </option>
              ))}
          </select>
        </label>
      </div>
      {diff.error ? <ErrorCard error={diff.error} /> : diff.data ? <DiffTable diff={diff.data} /> : <Waiting what="Comparing" />}
    </section>
  );
}

function DiffTable({ diff }: { diff: Differences }) {
  const schema = useFormSchema();
  if (!diff.differences.length) return <p className="hint">No settings differ from {diff.against}.</p>;
  return (
    <div className="table-wrap">
      <table className="table">
        <thead>
          <tr>
            <th scope="col">Setting</th>
            <th scope="col">{diff.against}</th>
            <th scope="col">This job</th>
            <th scope="col">Effect</th>
          </tr>
        </thead>
        <tbody>
          {diff.differences.map((each) => (
            <tr key={each.key}>
              <th scope="row">
                {schema.data && fieldAt(schema.data, each.key)?.label} <code className="hint">{each.key}</code>
              </th>
              <td>{each.before}</td>
              <td>{each.now}</td>
              <td className={each.is_harmless ? "hint" : ""}>{each.is_harmless ? "No effect on training" : "Affects training"}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
