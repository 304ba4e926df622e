/** The state of a job as word, icon and colour. */
import { STATES, type JobState } from "../lib/states";
import { Icon } from "./Icon";

export function StateBadge({ state }: { state: JobState }) {
  const { word, tone, icon } = STATES[state];
  return (
    <span className={`state tone-${tone}`}>
      <Icon name={icon} />
      {word}
    </span>
  );
}
