/** What the page asks of the server: one hook per answer. Live answers are kept fresh by the event stream. */
import { keepPreviousData, useQuery, useQueryClient, type UseQueryResult } from "@tanstack/react-query";
import type {
  Aside,
  Checkpoints,
  Comparison,
  FormSchema,
  Grid,
  JobDetail,
  JobList,
  LoraList,
  Machine,
  ModelInfo,
  Origins,
  Samples,
  Seen,
  Settings,
  NoticeList,
  Trash,
  TryoutStart,
} from "../generated/api";
import { call } from "../lib/api";
import { KEYS } from "../lib/live";

function useGet<T>(key: readonly unknown[], path: string): UseQueryResult<T> {
  return useQuery({ queryKey: key, queryFn: ({ signal }) => call<T>("GET", path, undefined, signal) });
}

const job = (id: string) => `/api/jobs/${encodeURIComponent(id)}`;

export const useJobs = () => useGet<JobList>(KEYS.jobs, "/api/jobs?limit=5000");
export const useJob = (id: string) => useGet<JobDetail>(KEYS.job(id), job(id));
export const samplesQuery = (id: string) => ({
  queryKey: KEYS.samples(id),
  queryFn: ({ signal }: { signal: AbortSignal }) => call<Samples>("GET", `${job(id)}/samples`, undefined, signal),
});
export const useSamples = (id: string) => useQuery(samplesQuery(id));
/** Asked anew each time that the page is opened: a run may have been started with other settings since. */
export const useComparison = (ids: readonly string[]) =>
  useQuery({
    queryKey: ["job", "compare", ...ids],
    queryFn: ({ signal }) => call<Comparison>("GET", `/api/compare?runs=${ids.join(",")}`, undefined, signal),
    gcTime: 0,
  });
/** A part of the samples: it is stale with them. */
export const useGrid = (id: string) => useGet<Grid>([...KEYS.samples(id), "grid"], `${job(id)}/grid`);
/** Files come and go without a word: asked anew each time that the page is opened. */
export const useLoras = () =>
  useQuery({ queryKey: ["loras"], queryFn: ({ signal }) => call<LoraList>("GET", "/api/loras", undefined, signal), gcTime: 0 });
/** @param source such as `run=ID` or `arch=NAME` */
export const useTryoutStart = (source: string) =>
  useQuery({
    queryKey: ["tryout", source],
    queryFn: ({ signal }) => call<TryoutStart>("GET", `/api/tryouts/start?${source}`, undefined, signal),
    enabled: source !== "",
    gcTime: 0,
  });
export const useCheckpoints = (id: string) => useGet<Checkpoints>(KEYS.checkpoints(id), `${job(id)}/checkpoints`);
/** Worked out from the dataset as it is now: asked anew each time that it is shown. */
export const useSeen = (id: string, step: number, picture: string) =>
  useQuery({
    queryKey: ["seen", id, step, picture],
    queryFn: ({ signal }) => call<Seen>("GET", `${job(id)}/seen?step=${step}&picture=${picture}`, undefined, signal),
    placeholderData: keepPreviousData,
    staleTime: Infinity,
    gcTime: 0,
  });
export const useAside = (id: string) => useGet<Aside>(KEYS.aside(id), `${job(id)}/aside`);
export const useTrash = () => useGet<Trash>(KEYS.trash, "/api/trash");
/** Asked anew each time that a job is edited: it may have run since. */
export const useOrigins = (id: string | undefined) =>
  useQuery({
    queryKey: ["job", id, "origins"],
    queryFn: ({ signal }) => call<Origins>("GET", `${job(id!)}/origins`, undefined, signal),
    enabled: id !== undefined,
  });
export const useMachine = () => useGet<Machine>(KEYS.machine, "/api/machine");
export const useModels = () => useGet<ModelInfo[]>(["models"], "/api/models");
export const useFormSchema = () => useGet<FormSchema>(["form"], "/api/form");
export const useSettings = () => useGet<Settings>(["settings"], "/api/settings");
export const useNoticeList = () => useGet<NoticeList>(["notices"], "/api/notices");

/** The newest state of a job row, from the list if the job itself was not asked for. */
export function useJobName(id: string): string | undefined {
  const client = useQueryClient();
  return client.getQueryData<JobDetail>(KEYS.job(id))?.name;
}
