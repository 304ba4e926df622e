/** The runs that a job's charts are compared with, and their curves as far as they go. */
import { keepPreviousData, useQueries } from "@tanstack/react-query";
import { useCallback, useEffect, useMemo, useSyncExternalStore } from "react";
import { useSearchParams } from "wouter";
import type { JobRow } from "../generated/api";
import { seriesOf } from "../lib/live";
import { chosenIn, ghostOf, GHOSTS, type Ghost, type Overlay } from "../lib/overlays";
import { metricsQuery, type Range } from "./useMetrics";
import { useJobs } from "./queries";
import { useStored } from "./useStored";

/** What is chosen: other runs by the page's address, so that a link shows the same; the kind of ghost for all jobs. */
export function useCompared(job: JobRow) {
  const { data } = useJobs();
  const jobs = useMemo(() => data?.jobs ?? [], [data]);
  const [search, setSearch] = useSearchParams();
  const [ghost, setGhost] = useStored<Ghost>("ghost", "none");
  const ids = chosenIn(search.get("with"), jobs, job);
  const choose = (next: string[]) =>
    setSearch(
      (now) => {
        if (next.length) now.set("with", next.join(","));
        else now.delete("with");
        return now;
      },
      { replace: true },
    );
  return { jobs, ids, choose, ghost: ghost in GHOSTS ? ghost : "none", setGhost };
}

/** Another run whose curves are drawn. */
export type Shown = Pick<Overlay, "id" | "name" | "isGhost">;

/** The runs that are chosen for a job, and its ghost. */
export function shownBeside(job: JobRow, { jobs, ids, ghost }: ReturnType<typeof useCompared>): Shown[] {
  const ghostId = ghostOf(ghost, jobs, job)?.id;
  const all = [...ids, ...(ghostId && !ids.includes(ghostId) ? [ghostId] : [])];
  return all.map((id) => ({ id, name: jobs.find((each) => each.id === id)?.name ?? id, isGhost: !ids.includes(id) }));
}

/** @param keys of curves; empty: all. */
export function useOverlays(shown: readonly Shown[], keys: readonly string[], range: Range): Overlay[] {
  const results = useQueries({
    queries: shown.map(({ id }) => ({ ...metricsQuery(id, range, keys), placeholderData: keepPreviousData })),
  });
  const version = useLiveVersion(shown.map(({ id }) => id).join());
  const fetched = results.map(({ dataUpdatedAt }) => dataUpdatedAt).join();
  useEffect(() => {
    if (!range) results.forEach(({ data }, place) => data && seriesOf(shown[place]!.id).forgetUpTo(data.last_step));
    // oxlint-disable-next-line react-hooks/exhaustive-deps
  }, [fetched, range]);
  return useMemo(
    () =>
      shown.flatMap((run, place) => {
        const data = results[place]!.data;
        if (!data) return [];
        const series = range ? data.series : data.series.map((each) => seriesOf(run.id).extend(each));
        return [{ ...run, place, series: series.filter(({ steps }) => steps.length) }];
      }),
    // lists are new each time they are made: what they hold decides
    // oxlint-disable-next-line react-hooks/exhaustive-deps
    [JSON.stringify(shown), fetched, version, range],
  );
}

/** Grows with every figure that the stream brings of these jobs. */
function useLiveVersion(ids: string): number {
  const all = useMemo(() => ids.split(",").filter(Boolean).map(seriesOf), [ids]);
  const subscribe = useCallback(
    (listener: () => void) => {
      const stops = all.map((series) => series.subscribe(listener));
      return () => stops.forEach((stop) => stop());
    },
    [all],
  );
  return useSyncExternalStore(subscribe, () => all.reduce((sum, series) => sum + series.version, 0));
}
