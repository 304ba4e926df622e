/** Which checkpoint is the best, and how strong: prompts × LoRAs × strengths × seeds, drawn as one job. */
import { useSearchParams } from "wouter";
import { JobCard } from "../../components/JobCard";
import { Empty, ErrorCard, Page, Waiting } from "../../components/Page";
import { useJobs, useLoras, useModels, useTryoutStart } from "../../hooks/queries";
import type { JobRow, LoraInfo, ModelInfo } from "../../generated/api";
import { PICTURES } from "../../lib/states";
import { formOf } from "../../lib/tryout";
import { TryoutEditor } from "./TryoutEditor";

const MOST_PAST = 24;

export function TryoutPage() {
  const jobs = useJobs();
  const models = useModels();
  const loras = useLoras();
  const error = jobs.error ?? models.error ?? loras.error;
  return (
    <Page title="Try out">
      {error ? (
        <ErrorCard error={error} title="Couldn’t load the runs and models" />
      ) : jobs.data && models.data && loras.data ? (
        <>
          <Choices jobs={jobs.data.jobs} models={models.data} loras={loras.data.loras} />
          {loras.data.is_cut && <p className="hint">There are more files than are listed here: the root folders hold very many.</p>}
          <Past jobs={jobs.data.jobs} />
        </>
      ) : (
        <Waiting what="Looking for LoRA files" />
      )}
    </Page>
  );
}

interface Props {
  jobs: JobRow[];
  models: ModelInfo[];
  loras: LoraInfo[];
}

/** The run or model to draw with stands in the address, and so may the checkpoints to begin with. */
function Choices({ jobs, models, loras }: Props) {
  const [search, setSearch] = useSearchParams();
  const withFiles = new Set(loras.map(({ job_id }) => job_id));
  const runs = jobs.filter((job) => withFiles.has(job.id));
  const run = search.get("run");
  const source = run ? `run=${run}` : search.get("arch") ? `arch=${search.get("arch")}` : runs[0] ? `run=${runs[0].id}` : `arch=${models[0]?.arch ?? ""}`;
  const start = useTryoutStart(source);
  const steps = (search.get("steps") ?? "").split(",").filter(Boolean).map(Number);
  const own = loras.filter((each) => each.job_id !== null && source === `run=${each.job_id}`);
  const first = steps.length ? own.filter(({ step }) => step !== null && steps.includes(step)) : own.slice(0, 3);
  return (
    <>
      <label className="inline-field tryout-source">
        Draw with the model of
        <select value={source} onChange={(event) => setSearch(new URLSearchParams(event.target.value), { replace: true })}>
          <optgroup label="Runs">
            {runs.map((each) => (
              <option key={each.id} value={`run=${each.id}`}>
                {each.name} ({each.arch})
              </option>
            ))}
            {run && !runs.some(({ id }) => id === run) && <option value={source}>{jobs.find(({ id }) => id === run)?.name ?? run}</option>}
          </optgroup>
          <optgroup label="Models">
            {models.map((each) => (
              <option key={each.arch} value={`arch=${each.arch}`}>
                {each.label}
              </option>
            ))}
          </optgroup>
        </select>
      </label>
      {start.error ? (
        <ErrorCard error={start.error} title="This can’t be drawn with" />
      ) : start.data ? (
        <TryoutEditor key={source} source={source} first={formOf(start.data, first.map(({ path }) => path))} loras={loras} jobs={jobs} />
      ) : (
        <Waiting what="Reading the run" />
      )}
    </>
  );
}

function Past({ jobs }: { jobs: JobRow[] }) {
  const past = jobs.filter((job) => job.kind === PICTURES);
  return (
    <section aria-label="Earlier try-outs">
      <h2>Earlier try-outs</h2>
      {past.length ? (
        <ul className="job-cards">
          {past.slice(0, MOST_PAST).map((job) => (
            <li key={job.id}>
              <JobCard job={job} />
            </li>
          ))}
        </ul>
      ) : (
        <Empty title="None yet.">
          <p>What you draw here is kept, with its settings.</p>
        </Empty>
      )}
      {past.length > MOST_PAST && <p className="hint">{past.length - MOST_PAST} more are in the list of jobs.</p>}
    </section>
  );
}
