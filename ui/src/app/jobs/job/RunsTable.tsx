/** Every start of the job and how it ended. */
import { clock } from "../../../lib/format";

const TIMES = new Set(["time", "start", "started", "ended", "end"]);

export function RunsTable({ runs }: { runs: Record<string, unknown>[] }) {
  if (!runs.length) return null;
  const keys = [...new Set(runs.flatMap((run) => Object.keys(run)))].filter((key) =>
    runs.some((run) => run[key] !== null && typeof run[key] !== "object"),
  );
  return (
    <details className="fold">
      <summary>
        Runs <span className="hint figure">{runs.length}</span>
      </summary>
      <div className="table-wrap">
        <table className="table">
          <thead>
            <tr>
              {keys.map((key) => (
                <th key={key} scope="col">
                  {key.replaceAll("_", " ")}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {runs.map((run, place) => (
              <tr key={place}>
                {keys.map((key) => (
                  <td key={key} className="figure">
                    {cell(key, run[key])}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </details>
  );
}

function cell(key: string, value: unknown): string {
  if (value == null) return "–";
  if (TIMES.has(key) && typeof value === "number") return clock(value);
  return String(value);
}
