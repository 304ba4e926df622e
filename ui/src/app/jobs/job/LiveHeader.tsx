/** Where the run is: reason in words, phase with progress, step, time left, speed. Every figure keeps its place. */
import { useEffect, useRef, useState } from "react";
import { Progress } from "../../../components/Progress";
import { useStartWords } from "../../../hooks/useStartWords";
import type { JobDetail } from "../../../generated/api";
import { clock, duration, figure, seconds } from "../../../lib/format";
import { CAPTIONS, isLive, PICTURES, STATES } from "../../../lib/states";
import { FailureCard } from "./FailureCard";
import { Stages } from "./Stages";

export function LiveHeader({ job }: { job: JobDetail }) {
  const { progress } = job;
  const startOf = useStartWords();
  const live = isLive(job.state);
  const inStage = live && progress?.total != null && job.state !== "training";
  return (
    <section className="live" aria-label="Status">
      <p className="live-reason">
        {job.reason} <span className="figure">{startOf(job)}</span>
      </p>
      <Announcer job={job} />
      {live && <Stages job={job} />}
      {progress && (
        <>
          <Progress
            done={inStage ? (progress.done ?? 0) : progress.step}
            total={inStage ? progress.total! : progress.total_steps}
            tone={STATES[job.state].tone}
            label={inStage ? progress.phase : "Training steps"}
          />
          <dl className="live-figures">
            {inStage && <Figure name={progress.phase} value={`${progress.done ?? 0} / ${progress.total}`} />}
            {inStage && progress.phase_left_s != null && <Figure name={`Left of ${progress.phase}`} value={duration(progress.phase_left_s)} />}
            {job.kind !== PICTURES && job.kind !== CAPTIONS && (
              <>
                <Figure name="Step" value={`${progress.step.toLocaleString("en")} / ${progress.total_steps.toLocaleString("en")}`} />
                <Figure name="Loss" value={figure(progress.loss)} />
                <Figure name="Learning rate" value={figure(progress.lr)} />
                <Figure name="Speed" value={seconds(progress.step_s)} />
                {live && <Figure name="Time left" value={duration(progress.eta_s)} />}
              </>
            )}
            {live && progress.eta_s != null && <Figure name="Finishes around" value={clock(Date.now() / 1000 + progress.eta_s)} />}
          </dl>
        </>
      )}
      {job.failure && <FailureCard job={job} failure={job.failure} />}
    </section>
  );
}

function Figure({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className="figure">{value}</dd>
    </div>
  );
}

/** Says a change of state, not each step, to screen readers. */
function Announcer({ job }: { job: JobDetail }) {
  const [said, setSaid] = useState("");
  const before = useRef(job.state);
  useEffect(() => {
    if (before.current !== job.state) setSaid(`${job.name}: ${STATES[job.state].word}. ${job.reason}`);
    before.current = job.state;
  }, [job.state, job.name, job.reason]);
  return (
    <p className="visually-hidden" role="status" aria-live="polite">
      {said}
    </p>
  );
}
