/** What the review of proposed captions asks of the server, and what it decides. */
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useToast } from "../../components/Toasts";
import type { CaptionJobs, Decided, Decision, Proposals, Undone } from "../../generated/api";
import { call, errorText } from "../../lib/api";

const KEY = { job: (id: string) => ["proposals", "job", id], dataset: (id: string) => ["proposals", "dataset", id] };

export const useProposals = (id: string) =>
  useQuery({
    queryKey: KEY.job(id),
    queryFn: ({ signal }) => call<Proposals>("GET", `/api/jobs/${encodeURIComponent(id)}/proposals`, undefined, signal),
    refetchOnMount: "always",
  });

export const useCaptionJobs = (dataset: string) =>
  useQuery({
    queryKey: KEY.dataset(dataset),
    queryFn: ({ signal }) => call<CaptionJobs>("GET", `/api/datasets/${encodeURIComponent(dataset)}/proposals`, undefined, signal),
    refetchOnMount: "always",
  });

export const useDecide = (id: string) =>
  useChange((decisions: Decision[]) => call<Decided>("POST", `/api/jobs/${encodeURIComponent(id)}/proposals`, { decisions }));

/** Captions come back that were there before some were accepted, and those are open again. */
export const useTakeBack = () =>
  useChange(({ dataset, step }: { dataset: string; step: string }) => call<Undone>("POST", `/api/datasets/${encodeURIComponent(dataset)}/undo`, { id: step }));

function useChange<Input, Output>(send: (input: Input) => Promise<Output>) {
  const client = useQueryClient();
  const toast = useToast();
  return useMutation({
    mutationFn: send,
    onError: (error) => toast({ text: errorText(error), tone: "bad" }),
    onSettled: () => Promise.all([client.invalidateQueries({ queryKey: ["proposals"] }), client.invalidateQueries({ queryKey: ["dataset"] })]),
  });
}
