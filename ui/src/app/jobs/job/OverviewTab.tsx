/** Newest samples, curves, memory beside its prediction, warnings, notes. */
import { Link } from "wouter";
import { Icon } from "../../../components/Icon";
import { Thumb } from "../../../components/Thumb";
import { useSamples } from "../../../hooks/queries";
import type { JobDetail } from "../../../generated/api";
import { SampleMatrix } from "../../../lib/matrix";
import { Curves } from "./curves/Curves";
import { MemoryTable } from "./MemoryTable";
import { Notes } from "./Notes";
import { RunsTable } from "./RunsTable";
import { SeenFold } from "./SeenFold";

export function OverviewTab({ job }: { job: JobDetail }) {
  return (
    <>
      <NewestSamples job={job} />
      {job.warnings.length > 0 && (
        <ul className="todo" aria-label="Warnings">
          {[...new Set(job.warnings)].map((text) => (
            <li key={text} className="tone-warn">
              <Icon name="alert" />
              <span>{text}</span>
            </li>
          ))}
        </ul>
      )}
      {job.best && <p>{job.best}</p>}
      <Curves job={job} />
      <SeenFold job={job} />
      <MemoryTable stages={job.stages} />
      <RunsTable runs={job.runs} />
      <Notes job={job} />
    </>
  );
}

function NewestSamples({ job }: { job: JobDetail }) {
  const { data } = useSamples(job.id);
  if (!data?.samples.length) return null;
  const matrix = new SampleMatrix(data);
  const step = matrix.steps.at(-1)!;
  return (
    <Link href={`/jobs/${job.id}/samples`} className="strip" aria-label={`Samples at step ${step}`}>
      {matrix.columns.slice(0, 8).map(({ index, prompt }) => (
        <Thumb key={index} file={matrix.upTo(step, index)?.file ?? null} alt={prompt} />
      ))}
    </Link>
  );
}
