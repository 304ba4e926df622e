/** Curves of a job: what the server holds, and behind it what the event stream has brought since. */
import { keepPreviousData, useQuery, useQueryClient } from "@tanstack/react-query";
import { useEffect, useMemo, useSyncExternalStore } from "react";
import type { Metrics } from "../generated/api";
import { call } from "../lib/api";
import { KEYS, seriesOf } from "../lib/live";

export type Range = [number, number] | null;

const POINTS = 1500;

/** @param keys of curves; empty: all. */
export function metricsQuery(id: string, range: Range, keys: readonly string[] = []) {
  const query = new URLSearchParams({ points: String(POINTS) });
  if (keys.length) query.set("keys", keys.join(","));
  if (range) {
    query.set("from", String(Math.floor(range[0])));
    query.set("to", String(Math.ceil(range[1])));
  }
  return {
    queryKey: [...KEYS.metrics(id), range, keys.join()],
    queryFn: ({ signal }: { signal: AbortSignal }) =>
      call<Metrics>("GET", `/api/jobs/${encodeURIComponent(id)}/metrics?${query}`, undefined, signal),
  };
}

/** Ask for the curves while the job itself is still on its way. */
export function usePrefetchedMetrics(id: string, isWanted: boolean): void {
  const client = useQueryClient();
  useEffect(() => {
    if (isWanted) void client.prefetchQuery(metricsQuery(id, null));
  }, [client, id, isWanted]);
}

export function useMetrics(id: string, range: Range) {
  const client = useQueryClient();
  const live = seriesOf(id);
  const metrics = useQuery({ ...metricsQuery(id, range), placeholderData: keepPreviousData });
  const version = useSyncExternalStore(live.subscribe, () => live.version);
  const { data } = metrics;
  useEffect(() => {
    if (data && !range) live.forgetUpTo(data.last_step);
  }, [data, live, range]);
  useEffect(() => {
    // thin out by fetching anew, before the page holds more points than it can show
    if (live.numPoints > 2 * POINTS) void client.invalidateQueries({ queryKey: KEYS.metrics(id) });
  }, [version, live, client, id]);
  const series = useMemo(() => {
    if (!data) return undefined;
    if (range) return data.series;
    const known = new Set(data.series.map((each) => each.key));
    const fresh = live.keys
      .filter((key) => !known.has(key))
      .map((key) => ({ key, steps: [], low: [], mean: [], high: [] }));
    return [...data.series, ...fresh].map((each) => live.extend(each)).filter((each) => each.steps.length);
    // a new version means that `live` holds more
    // oxlint-disable-next-line react-hooks/exhaustive-deps
  }, [data, range, live, version]);
  return { ...metrics, series };
}
