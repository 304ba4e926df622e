/** How far a job is: bar, step, time left, speed. The figures keep their places while they change. */
import type { JobRow } from "../generated/api";
import { duration, seconds } from "../lib/format";
import { isLive, STATES } from "../lib/states";
import { Progress } from "./Progress";

export function JobProgress({ job }: { job: JobRow }) {
  const { progress } = job;
  if (!progress) return null;
  const inStage = progress.total != null && progress.done != null && isLive(job.state) && job.state !== "training";
  const done = inStage ? progress.done! : progress.step;
  const total = inStage ? progress.total! : progress.total_steps;
  const left = inStage ? progress.phase_left_s : progress.eta_s;
  return (
    <span className="job-progress">
      <Progress
        done={done}
        total={total}
        tone={STATES[job.state].tone}
        label={inStage ? `${progress.phase} of ${job.name}` : `Steps of ${job.name}`}
      />
      <span className="job-figures figure">
        <span>
          {inStage && `${progress.phase} `}
          {done.toLocaleString("en")} / {total.toLocaleString("en")}
        </span>
        {isLive(job.state) && (
          <>
            <span>{left != null && `${duration(left)} left`}</span>
            <span>{progress.step_s != null && seconds(progress.step_s)}</span>
          </>
        )}
      </span>
    </span>
  );
}
