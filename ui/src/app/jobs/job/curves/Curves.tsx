/** All curves of a job: one range of steps, one smoothing and one scale for all of them. */
import { useMemo, useState } from "react";
import { Link } from "wouter";
import { Button } from "../../../../components/Button";
import { Empty, ErrorCard, Waiting } from "../../../../components/Page";
import { useMetrics, type Range } from "../../../../hooks/useMetrics";
import { shownBeside, useCompared, useOverlays } from "../../../../hooks/useOverlays";
import type { JobDetail } from "../../../../generated/api";
import { chartsOf, csvOf } from "../../../../lib/charts";
import { saveFile } from "../../../../lib/download";
import { comparePath } from "../../../../lib/jobsList";
import { isLive } from "../../../../lib/states";
import { overlaysOf } from "../../../../lib/overlays";
import { ChartCard } from "./ChartCard";
import { CompareDialog } from "./CompareDialog";

const NO_SMOOTHING = 0;
const FIRST_SMOOTHING = 0.9;

export function Curves({ job }: { job: JobDetail }) {
  const [range, setRange] = useState<Range>(null);
  const [smoothing, setSmoothing] = useState(FIRST_SMOOTHING);
  const [isLog, setLog] = useState(false);
  const { series, data, error } = useMetrics(job.id, range);
  const charts = useMemo(() => chartsOf((series ?? []).map((each) => each.key)), [series]);
  const compared = useCompared(job);
  const overlays = useOverlays(shownBeside(job, compared), charts.filter(({ keys }) => keys.length === 1).flatMap(({ keys }) => keys), range);
  const [isChoosing, setChoosing] = useState(false);
  if (error && !data) return <ErrorCard error={error} title="Couldn’t load the charts" />;
  if (!series || !data) return <Waiting what="Loading charts" />;
  if (!charts.length)
    return isLive(job.state) ? <Empty title="Charts appear after the first step." /> : null;
  const all = [...series, ...overlays.flatMap((other) => other.series.map((each) => ({ ...each, key: `${each.key} (${other.name})` })))];
  return (
    <section aria-label="Charts">
      <div className="curves-head">
        <h2>Charts</h2>
        <label className="inline-field">
          Smoothing
          <input
            type="range"
            min={NO_SMOOTHING}
            max={0.99}
            step={0.01}
            value={smoothing}
            onChange={(event) => setSmoothing(Number(event.target.value))}
          />
          <span className="figure">{smoothing.toFixed(2)}</span>
        </label>
        <label className="check">
          <input type="checkbox" checked={isLog} onChange={() => setLog(!isLog)} /> Log scale
        </label>
        <StepRange range={range} last={Math.max(data.last_step, ...all.map((each) => each.steps.at(-1) ?? 0))} onChange={setRange} />
        <Button icon="chart" onClick={() => setChoosing(true)}>
          Compare…
        </Button>
        {compared.ids.length > 0 && <Link href={comparePath([job.id, ...compared.ids])}>Side by side</Link>}
        <Button icon="download" look="quiet" onClick={() => saveFile(`${job.name}.csv`, new Blob([csvOf(all)], { type: "text/csv" }))}>
          CSV
        </Button>
      </div>
      <div className="charts">
        {charts.map((chart) => (
          <ChartCard
            key={chart.id}
            name={job.name}
            chart={chart}
            series={series.filter((each) => chart.keys.includes(each.key))}
            overlays={overlaysOf(chart, overlays)}
            marks={data.marks}
            smoothing={chart.id === "lr" || chart.id === "memory" ? NO_SMOOTHING : smoothing}
            isLog={isLog}
            range={range}
            onRange={setRange}
          />
        ))}
      </div>
      {isChoosing && <CompareDialog job={job} compared={compared} onClose={() => setChoosing(false)} />}
    </section>
  );
}

/** The range as figures: the way to zoom without a mouse. */
function StepRange({ range, last, onChange }: { range: Range; last: number; onChange: (range: Range) => void }) {
  const set = (from: number, to: number) => onChange(from < to ? [from, to] : range);
  return (
    <span className="inline-field">
      Steps
      <input
        type="number"
        aria-label="First step shown"
        min={0}
        max={last}
        value={Math.round(range?.[0] ?? 0)}
        onChange={(event) => set(Number(event.target.value), range?.[1] ?? last)}
      />
      to
      <input
        type="number"
        aria-label="Last step shown"
        min={1}
        max={last}
        value={Math.round(range?.[1] ?? last)}
        onChange={(event) => set(range?.[0] ?? 0, Number(event.target.value))}
      />
      <Button look="quiet" disabled={!range} onClick={() => onChange(null)}>
        All
      </Button>
    </span>
  );
}
