/** The job of a try-out as one fills in its form, and what the check says of it. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { Problem, TryoutDraft, TryoutRequest } from "../generated/api";
import { ApiError, call } from "../lib/api";
import { useCheck, useDelayed } from "./useCheck";

/** @param request null: the form has mistakes that need no server. */
export function useTryoutDraft(request: TryoutRequest | null) {
  const wanted = JSON.stringify(request);
  const asked = useDelayed(wanted);
  const draft = useQuery({
    queryKey: ["tryout", "draft", asked],
    queryFn: ({ signal }) => call<TryoutDraft>("POST", "/api/tryouts", JSON.parse(asked), signal),
    placeholderData: keepPreviousData,
    enabled: asked !== "null",
    gcTime: 0,
  });
  const yaml = draft.data && !draft.isPlaceholderData && !draft.error ? draft.data.yaml : null;
  const check = useCheck(yaml ?? "");
  const refused: Problem[] = draft.error instanceof ApiError ? draft.error.problems : draft.isPlaceholderData ? [] : (draft.data?.problems ?? []);
  const isOld = asked !== wanted || draft.isFetching || yaml === null || check.isOld || check.isFetching;
  const said = isOld ? [] : (check.data?.problems ?? []);
  return { yaml, check, problems: [...(asked === wanted ? refused : []), ...said], isOld };
}
