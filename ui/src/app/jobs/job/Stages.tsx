/** The way of a run from its check to its last save, with the place where it is now. */
import { Icon } from "../../../components/Icon";
import type { JobDetail } from "../../../generated/api";
import type { JobState } from "../../../lib/states";

const WAY: { name: string; states: JobState[] }[] = [
  { name: "Check", states: ["starting", "checking"] },
  { name: "Encode", states: ["encoding"] },
  { name: "Load", states: ["loading"] },
  { name: "Train", states: ["training", "sampling", "saving"] },
];

export function Stages({ job }: { job: JobDetail }) {
  const here = WAY.findIndex(({ states }) => states.includes(job.state));
  if (here < 0) return null;
  return (
    <ol className="stages" aria-label="Run stages">
      {WAY.map(({ name }, place) => (
        <li key={name} className={place === here ? "is-here" : place < here ? "is-done" : ""} aria-current={place === here ? "step" : undefined}>
          {place < here && <Icon name="check" />}
          {name}
        </li>
      ))}
    </ol>
  );
}
