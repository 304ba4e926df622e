/** All curves of a job: one range of steps, one smoothing and one scale for all of them. */
import { useMemo, useState } from "react";
import { Button } from "../../../../components/Button";
import { Empty, ErrorCard, Waiting } from "../../../../components/Page";
import { useMetrics, type Range } from "../../../../hooks/useMetrics";
import type { JobDetail } from "../../../../generated/api";
import { chartsOf, csvOf } from "../../../../lib/charts";
import { saveFile } from "../../../../lib/download";
import { isLive } from "../../../../lib/states";
import { ChartCard } from "./ChartCard";

const NO_SMOOTHING = 0;
const FIRST_SMOOTHING = 0.9;

export function Curves({ job }: { job: JobDetail }) {
  const [range, setRange] = useState<Range>(null);
  const [smoothing, setSmoothing] = useState(FIRST_SMOOTHING);
  const [isLog, setLog] = useState(false);
  const { series, data, error } = useMetrics(job.id, range);
  const charts = useMemo(() => chartsOf((series ?? []).map((each) => each.key)), [series]);
  if (error && !data) return <ErrorCard error={error} title="Couldn’t load the charts" />;
  if (!series || !data) return <Waiting what="Loading charts" />;
  if (!charts.length)
    return isLive(job.state) ? <Empty title="Charts appear after the first step." /> : null;
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
        <StepRange range={range} last={Math.max(data.last_step, ...series.map((each) => each.steps.at(-1) ?? 0))} onChange={setRange} />
        <Button icon="download" look="quiet" onClick={() => saveFile(`${job.name}.csv`, new Blob([csvOf(series)], { type: "text/csv" }))}>
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
            marks={data.marks}
            smoothing={chart.id === "lr" || chart.id === "memory" ? NO_SMOOTHING : smoothing}
            isLog={isLog}
            range={range}
            onRange={setRange}
          />
        ))}
      </div>
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
