/** One chart with its title, the value under the pointer, export, and the table behind it. */
import { useId, useRef, useState } from "react";
import { Link } from "wouter";
import { Button } from "../../../../components/Button";
import type { Mark, Series } from "../../../../generated/api";
import { titleOf, type ChartSpec } from "../../../../lib/charts";
import { saveFile } from "../../../../lib/download";
import type { Range } from "../../../../hooks/useMetrics";
import { lookOf, type Overlay } from "../../../../lib/overlays";
import { Chart, type ChartHandle } from "./Chart";
import { ChartTable } from "./ChartTable";

interface Props {
  name: string;
  /** what the legend calls the run of `series` */
  own?: string;
  chart: ChartSpec;
  series: Series[];
  overlays: Overlay[];
  marks: Mark[];
  smoothing: number;
  isLog: boolean;
  range: Range;
  onRange: (range: Range) => void;
}

export function ChartCard({ name, own = "This run", chart, series, overlays, marks, smoothing, isLog, range, onRange }: Props) {
  const [isTable, setTable] = useState(false);
  const handle = useRef<ChartHandle>(null);
  const readout = useRef<HTMLSpanElement>(null);
  const id = useId();
  const last = series.map((each) => `${titleOf(each.key)} ${chart.format(each.mean.at(-1))}`).join(", ");
  const others = overlays.length ? ` Compared with ${overlays.map((other) => `${other.name}, ${chart.format(other.series[0]!.mean.at(-1))}`).join("; ")}.` : "";
  const step = series[0]?.steps.at(-1) ?? 0;
  return (
    <figure className="card chart-card" aria-labelledby={id}>
      <figcaption className="card-head">
        <h3 id={id}>{chart.title}</h3>
        <span className="readout figure" ref={readout} aria-hidden="true" />
        <Button icon={isTable ? "chart" : "table"} look="quiet" label={isTable ? `Show ${chart.title} as a chart` : `Show ${chart.title} as a table`} onClick={() => setTable(!isTable)} />
        <Button
          icon="download"
          look="quiet"
          label={`Download ${chart.title} as an image`}
          disabled={isTable}
          onClick={async () => {
            const picture = await handle.current?.picture();
            if (picture) saveFile(`${name}_${chart.id}.png`, picture);
          }}
        />
      </figcaption>
      {isTable ? (
        <ChartTable chart={chart} series={series} overlays={overlays} />
      ) : (
        <div role="img" aria-label={`${chart.title} up to step ${step}: ${last}.${others} Use the button above to see it as a table.`}>
          <Chart
            ref={handle}
            series={series}
            overlays={overlays}
            marks={marks}
            smoothing={smoothing}
            isLog={isLog}
            range={range}
            onRange={onRange}
            format={chart.format}
            onHover={(text) => {
              if (readout.current) readout.current.textContent = text || `${last} · step ${step.toLocaleString("en")}`;
            }}
          />
        </div>
      )}
      {overlays.length > 0 && !isTable && <Legend own={own} overlays={overlays} />}
    </figure>
  );
}

function Legend({ own, overlays }: { own: string; overlays: Overlay[] }) {
  return (
    <ul className="legend chart-legend">
      <li>
        <Line colour="--series-0" dash={[]} /> {own}
      </li>
      {overlays.map((other) => (
        <li key={other.id}>
          <Line {...lookOf(other)} /> <Link href={`/jobs/${other.id}`}>{other.name}</Link>
          {other.isGhost && " (ghost)"}
        </li>
      ))}
    </ul>
  );
}

export function Line({ colour, dash }: { colour: string; dash: number[] }) {
  return (
    <svg width="26" height="8" aria-hidden="true">
      <line x1="0" x2="26" y1="4" y2="4" strokeWidth="2" strokeDasharray={dash.join(" ")} style={{ stroke: `var(${colour})` }} />
    </svg>
  );
}
