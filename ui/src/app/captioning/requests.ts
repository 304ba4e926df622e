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

/** A part of the proposals is decided about; `undo` brings captions back that were written. */
export interface Step {
  decisions: Decision[];
  undo?: { dataset: string; id: string };
}

export function useDecide(id: string) {
  const client = useQueryClient();
  const toast = useToast();
  return useMutation({
    mutationFn: async ({ decisions, undo }: Step) => {
      if (undo) await call<Undone>("POST", `/api/datasets/${encodeURIComponent(undo.dataset)}/undo`, { id: undo.id });
      return call<Decided>("POST", `/api/jobs/${encodeURIComponent(id)}/proposals`, { decisions });
    },
    onError: (error) => toast({ text: errorText(error), tone: "bad" }),
    onSettled: () => Promise.all([client.invalidateQueries({ queryKey: ["proposals"] }), client.invalidateQueries({ queryKey: ["dataset"] })]),
  });
}
