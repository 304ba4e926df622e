/** When each waiting job will start, in words. */
import { useMemo } from "react";
import type { JobRow } from "../generated/api";
import { startTimes, startWords } from "../lib/queueTimes";
import { useJobs, useMachine } from "./queries";

export function useStartWords(): (job: JobRow) => string {
  const list = useJobs().data;
  const machine = useMachine().data;
  const times = useMemo(
    // while the queue is paused nothing can be said
    () => (list && machine && !list.is_queue_paused ? startTimes(list.jobs, machine.gpus.map((gpu) => gpu.index)) : undefined),
    [list, machine],
  );
  return (job) => startWords(times?.get(job.id));
}
