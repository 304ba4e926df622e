/** Curves of several runs over each other, live; which ones, how smooth and at which scale stands in the address. */
import { useMemo, useState } from "react";
import { Empty } from "../../components/Page";
import { useMetrics, type Range } from "../../hooks/useMetrics";
import { useOverlays } from "../../hooks/useOverlays";
import type { JobRow, Series } from "../../generated/api";
import { isUsual, singleCharts, type CompareView } from "../../lib/compareView";
import { overlaysOf } from "../../lib/overlays";
import { ChartCard } from "../jobs/job/curves/ChartCard";

const NO_MARKS: never[] = [];
const ROUGH = new Set(["lr"]);

interface Props {
  runs: JobRow[];
  view: CompareView;
  onChange: (next: Partial<CompareView>) => void;
}

export function ComparedCurves({ runs, view, onChange }: Props) {
  const [first, ...rest] = runs as [JobRow, ...JobRow[]];
  const [range, setRange] = useState<Range>(null);
  const { series = [] } = useMetrics(first.id, range);
  const overlays = useOverlays(rest.map(({ id, name }) => ({ id, name, isGhost: false })), [], range);
  const keys = [...series, ...overlays.flatMap((other) => other.series)].map(({ key }) => key).join("\n");
  const charts = useMemo(() => singleCharts(keys.split("\n").filter(Boolean)), [keys]);
  if (!charts.length) return <Empty title="Charts appear after the first step." />;
  const shown = charts.filter(({ keys: [key] }) => (view.keys ? view.keys.includes(key!) : isUsual(key!)));
  const toggle = (key: string) => {
    const now = shown.map(({ keys: [each] }) => each!);
    onChange({ keys: now.includes(key) ? now.filter((each) => each !== key) : [...now, key] });
  };
  return (
    <section aria-label="Charts">
      <div className="curves-head">
        <h2>Charts</h2>
        <label className="inline-field">
          Smoothing
          <input
            type="range"
            min={0}
            max={0.99}
            step={0.01}
            value={view.smoothing}
            onChange={(event) => onChange({ smoothing: Number(event.target.value) })}
          />
          <span className="figure">{view.smoothing.toFixed(2)}</span>
        </label>
        <label className="check">
          <input type="checkbox" checked={view.isLog} onChange={() => onChange({ isLog: !view.isLog })} /> Log scale
        </label>
        {range && (
          <button type="button" className="link" onClick={() => setRange(null)}>
            All steps
          </button>
        )}
      </div>
      <details className="fold compare-curves">
        <summary>Curves shown: {shown.length} of {charts.length}</summary>
        <ul>
          {charts.map(({ id, title, keys: [key] }) => (
            <li key={id}>
              <label className="check">
                <input type="checkbox" checked={shown.some((each) => each.id === id)} onChange={() => toggle(key!)} /> {title}
              </label>
            </li>
          ))}
        </ul>
      </details>
      <div className="charts">
        {shown.map((chart) => (
          <ChartCard
            key={chart.id}
            name={`compared_${first.name}`}
            own={first.name}
            chart={chart}
            series={own(series, chart.keys[0]!)}
            overlays={overlaysOf(chart, overlays)}
            marks={NO_MARKS}
            smoothing={ROUGH.has(chart.id) || chart.id.startsWith("memory") ? 0 : view.smoothing}
            isLog={view.isLog}
            range={range}
            onRange={setRange}
          />
        ))}
      </div>
    </section>
  );
}

/** The curve of the first run; an empty one where only others have it, so that each keeps its line. */
function own(series: readonly Series[], key: string): Series[] {
  return [series.find((each) => each.key === key) ?? { key, steps: [], low: [], mean: [], high: [] }];
}
