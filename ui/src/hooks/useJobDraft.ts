/** The job that the server makes of a form as one fills it in, and what the check says of it. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { CaptionJobDraft, Problem } from "../generated/api";
import { ApiError, call } from "../lib/api";
import { useCheck, useDelayed } from "./useCheck";

/**
 * @param path where the request goes.
 * @param request null: the form has mistakes that need no server.
 */
export function useJobDraft(path: string, request: object | null) {
  const wanted = JSON.stringify(request);
  const asked = useDelayed(wanted);
  const draft = useQuery({
    queryKey: ["draft", path, asked],
    queryFn: ({ signal }) => call<CaptionJobDraft>("POST", path, JSON.parse(asked), signal),
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
