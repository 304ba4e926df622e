/** The figures of a chart as a table. */
import type { Series } from "../../../../generated/api";
import { aligned, thinned, titleOf, type ChartSpec } from "../../../../lib/charts";

const MOST_ROWS = 200;

export function ChartTable({ chart, series }: { chart: ChartSpec; series: Series[] }) {
  const { steps, columns } = aligned(series);
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
