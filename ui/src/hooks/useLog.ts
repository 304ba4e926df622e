/** The log in pages of lines, fetched as they come into view; the last page again when something happens. */
import { keepPreviousData, useQueries, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useSyncExternalStore } from "react";
import type { LogPage } from "../generated/api";
import { call } from "../lib/api";
import { KEYS, seriesOf } from "../lib/live";

export const LOG_PAGE = 500;

interface Asked {
  from: number;
  lines?: number;
  search?: string;
}

function fetchPage(id: string, { from, lines = LOG_PAGE, search }: Asked, signal: AbortSignal): Promise<LogPage> {
  const query = new URLSearchParams({ from: String(from), lines: String(lines) });
  if (search) query.set("q", search);
  return call<LogPage>("GET", `/api/jobs/${encodeURIComponent(id)}/log?${query}`, undefined, signal);
}

/** How long the log is, and where the searched text stands. */
export function useLogSize(id: string, search: string) {
  return useQuery({
    queryKey: [...KEYS.log(id), "size", search],
    queryFn: ({ signal }) => fetchPage(id, { from: 0, lines: 1, search }, signal),
    placeholderData: keepPreviousData,
  });
}

/** The pages that hold the lines from `first` to `last`, by page number. */
export function useLogPages(id: string, first: number, last: number, numLines: number): Map<number, LogPage> {
  const pages: number[] = [];
  for (let page = Math.floor(first / LOG_PAGE); page <= Math.floor(last / LOG_PAGE); page += 1) pages.push(page);
  const results = useQueries({
    queries: pages.map((page) => ({
      // the last page grows: its name holds the length of the log, a full page never changes
      queryKey: [...KEYS.log(id), page, (page + 1) * LOG_PAGE <= numLines ? "full" : numLines],
      queryFn: ({ signal }: { signal: AbortSignal }) => fetchPage(id, { from: page * LOG_PAGE }, signal),
      placeholderData: keepPreviousData,
    })),
  });
  return new Map(pages.flatMap((page, place) => (results[place]?.data ? [[page, results[place].data]] : [])));
}

/** Ask for the length of the log again whenever the job has said something, at most once a second. */
export function useLogFollow(id: string, isOn: boolean, mark: unknown): void {
  const client = useQueryClient();
  const live = seriesOf(id);
  const version = useSyncExternalStore(live.subscribe, () => live.version);
  useEffect(() => {
    if (!isOn) return;
    const timer = setTimeout(() => void client.invalidateQueries({ queryKey: [...KEYS.log(id), "size"] }), 400);
    return () => clearTimeout(timer);
  }, [client, id, isOn, version, mark]);
}
