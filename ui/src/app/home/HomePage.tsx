/** The machine, what runs on it, and what waits for someone. */
import { Link } from "wouter";
import { Icon } from "../../components/Icon";
import { Empty, ErrorCard, Page, Waiting } from "../../components/Page";
import { JobCard } from "../../components/JobCard";
import { useJobs, useMachine } from "../../hooks/queries";
import { useStartWords } from "../../hooks/useStartWords";
import type { JobRow, Machine } from "../../generated/api";
import { bytes } from "../../lib/format";
import { inOrder } from "../../lib/jobsList";
import { groupOf, needsMe } from "../../lib/states";
import { MachinePanel } from "./MachinePanel";

export function HomePage() {
  const jobs = useJobs();
  const machine = useMachine();
  return (
    <Page title="Home" aside={machine.data && <span className="hint">{machine.data.hostname}</span>}>
      {machine.error ? <ErrorCard error={machine.error} /> : machine.data ? <MachinePanel machine={machine.data} jobs={jobs.data?.jobs ?? []} /> : <Waiting what="Reading system information" />}
      {jobs.error ? <ErrorCard error={jobs.error} /> : jobs.data ? <Work jobs={jobs.data.jobs} machine={machine.data} /> : <Waiting what="Loading jobs" />}
    </Page>
  );
}

function Work({ jobs, machine }: { jobs: JobRow[]; machine: Machine | undefined }) {
  const running = inOrder(jobs.filter((job) => groupOf(job.state) === "live"));
  const waiting = inOrder(jobs.filter((job) => job.queue_position != null));
  const startOf = useStartWords();
  const recent = inOrder(jobs.filter((job) => groupOf(job.state) === "ended")).slice(0, 6);
  return (
    <>
      <NeedsMe jobs={jobs.filter((job) => needsMe(job.state))} machine={machine} />
      <Section title="Running" jobs={running}>
        {!jobs.length ? (
          <Empty title="You haven’t trained anything yet.">
            <p>For a first LoRA, all you need is a folder of 10 to 30 images and a trigger word for what they show.</p>
            <Link href="/jobs/new" className="button button-primary">
              <Icon name="plus" /> <span>Create your first job</span>
            </Link>
          </Empty>
        ) : (
          <Empty title="Nothing is running.">
            <Link href="/jobs/new">Start a new job</Link>
          </Empty>
        )}
      </Section>
      {waiting.length > 0 && <Section title="Up next" jobs={waiting.slice(0, 6)} note={startOf} />}
      {recent.length > 0 && <Section title="Recently finished" jobs={recent} />}
    </>
  );
}

interface SectionProps {
  title: string;
  jobs: JobRow[];
  note?: (job: JobRow) => string;
  children?: React.ReactNode;
}

function Section({ title, jobs, note, children }: SectionProps) {
  return (
    <section aria-label={title}>
      <h2>{title}</h2>
      {jobs.length ? (
        <ul className="job-cards">
          {jobs.map((job) => (
            <li key={job.id}>
              <JobCard job={job} note={note?.(job)} />
            </li>
          ))}
        </ul>
      ) : (
        children
      )}
    </section>
  );
}

const LITTLE_DISK = 20 * 1024 ** 3;
const RECENT_S = 3 * 86_400;

/** Failures of the last days, a disk that fills, extensions that do not load. */
function NeedsMe({ jobs, machine }: { jobs: JobRow[]; machine: Machine | undefined }) {
  const recent = jobs.filter((job) => Date.now() / 1000 - job.updated < RECENT_S);
  const disks = (machine?.disks ?? []).filter((disk) => disk.free_bytes < LITTLE_DISK);
  const broken = machine?.broken_extensions ?? [];
  if (!recent.length && !disks.length && !broken.length) return null;
  return (
    <section aria-label="Needs attention">
      <h2>Needs attention</h2>
      <ul className="todo">
        {inOrder(recent).slice(0, 5).map((job) => (
          <li key={job.id} className="tone-bad">
            <Icon name="alert" />
            <span>
              <Link href={`/jobs/${job.id}`}>{job.name}</Link>: {job.reason}
            </span>
          </li>
        ))}
        {recent.length > 5 && (
          <li className="tone-bad">
            <Icon name="alert" />
            <Link href="/jobs">{recent.length - 5} more</Link>
          </li>
        )}
        {disks.map((disk) => (
          <li key={disk.root} className="tone-warn">
            <Icon name="alert" />
            <span>
              Only {bytes(disk.free_bytes)} free in <code>{disk.root}</code>. If the disk fills up, a run stops at its next save.
            </span>
          </li>
        ))}
        {broken.map((name) => (
          <li key={name} className="tone-warn">
            <Icon name="alert" />
            <span>
              This extension failed to load: <code>{name}</code>
            </span>
          </li>
        ))}
      </ul>
    </section>
  );
}
