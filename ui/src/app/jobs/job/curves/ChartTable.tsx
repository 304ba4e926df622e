/** The figures of a chart as a table. */
import type { Series } from "../../../../generated/api";
import { aligned, thinned, titleOf, type ChartSpec } from "../../../../lib/charts";
import type { Overlay } from "../../../../lib/overlays";

const MOST_ROWS = 200;

interface Props {
  chart: ChartSpec;
  series: Series[];
  overlays: Overlay[];
}

export function ChartTable({ chart, series, overlays }: Props) {
  const { steps, columns } = aligned([...series, ...overlays.flatMap((other) => other.series)]);
  const rows = thinned(steps.length, MOST_ROWS);
  return (
    <div className="table-wrap chart-table" tabIndex={0} role="region" aria-label={`${chart.title} as a table`}>
      <table className="table">
        <thead>
          <tr>
            <th scope="col" className="num">Step</th>
            {series.map((each) => (
              <th key={each.key} scope="col" className="num">
                {titleOf(each.key)}
              </th>
            ))}
            {overlays.map((other) => (
              <th key={other.id} scope="col" className="num">
                {other.name}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map((row) => (
            <tr key={steps[row]}>
              <th scope="row" className="num">{steps[row]}</th>
              {columns.map((column, place) => (
                <td key={place} className="num">{chart.format(column[row])}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
