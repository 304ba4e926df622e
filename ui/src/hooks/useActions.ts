/** What can be done with a job: requests that change something, with a word about how they went. */
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useToast } from "../components/Toasts";
import type { ActionRequest, JobChange, JobDetail, JobId, JobRequest, KeepRequest, Kept, Queue } from "../generated/api";
import { call, errorText } from "../lib/api";
import { KEYS } from "../lib/live";
import type { Action } from "../lib/states";

const job = (id: string) => `/api/jobs/${encodeURIComponent(id)}`;

function useChange<Input, Output>(send: (input: Input) => Promise<Output>, stale: (input: Input) => readonly unknown[][]) {
  const client = useQueryClient();
  const toast = useToast();
  return useMutation({
    mutationFn: send,
    onError: (error) => toast({ text: errorText(error), tone: "bad" }),
    onSettled: (_data, _error, input) => {
      for (const queryKey of stale(input)) void client.invalidateQueries({ queryKey });
    },
  });
}

export interface ActionInput {
  id: string;
  action: Action;
  body?: ActionRequest;
}

export function useAction() {
  return useChange(
    ({ id, action, body }: ActionInput) => call<JobId | JobDetail>("POST", `${job(id)}/${action}`, body ?? {}),
    ({ id }) => [[...KEYS.jobs], [...KEYS.job(id)]],
  );
}

export function useCreateJob() {
  return useChange((body: JobRequest) => call<JobId>("POST", "/api/jobs", body), () => [[...KEYS.jobs]]);
}

export function useChangeJob() {
  return useChange(
    ({ id, change }: { id: string; change: JobChange }) => call<unknown>("PUT", job(id), change),
    ({ id }) => [[...KEYS.jobs], [...KEYS.job(id)]],
  );
}

export function useDeleteJob() {
  return useChange((id: string) => call<unknown>("DELETE", job(id)), () => [[...KEYS.jobs], [...KEYS.trash]]);
}

export function useDeleteCheckpoint() {
  return useChange(
    ({ id, step }: { id: string; step: number }) => call<unknown>("DELETE", `${job(id)}/checkpoints/${step}`),
    ({ id }) => [[...KEYS.checkpoints(id)], [...KEYS.aside(id)]],
  );
}

export function useEmptyAside() {
  return useChange((id: string) => call<unknown>("DELETE", `${job(id)}/aside`), (id) => [[...KEYS.aside(id)]]);
}

export function useEmptyTrash() {
  return useChange(() => call<unknown>("DELETE", "/api/trash"), () => [[...KEYS.trash]]);
}

/** Its mistakes are shown beside the name, so nothing is said of them elsewhere. */
export function useKeep() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (body: KeepRequest) => call<Kept>("POST", "/api/loras/keep", body),
    onSuccess: () => void client.invalidateQueries({ queryKey: ["loras"] }),
  });
}

export function useStar() {
  return useChange(
    ({ id, file, isStarred }: { id: string; file: string; isStarred: boolean }) =>
      call<unknown>("PUT", `${job(id)}/samples/${encodeURIComponent(file)}/star`, { is_starred: isStarred }),
    ({ id }) => [[...KEYS.samples(id)]],
  );
}

export function useReorder() {
  return useChange((queue: Queue) => call<unknown>("PUT", "/api/queue", queue), () => [[...KEYS.jobs]]);
}
