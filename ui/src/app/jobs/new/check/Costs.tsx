/** What the job costs: time, disk, download, licence. */
import type { CheckReport } from "../../../../generated/api";
import { bytes, durationRange } from "../../../../lib/format";

export function Costs({ report }: { report: CheckReport }) {
  const disk = Object.values(report.disk).reduce((sum, part) => sum + part, 0);
  const rows: [string, string, string?][] = [];
  if (report.estimate) rows.push(["Time", durationRange(report.estimate.low_s, report.estimate.high_s), report.estimate.basis]);
  if (disk) rows.push(["Disk", `up to ${bytes(disk)}`, report.free_disk_bytes != null ? `${bytes(report.free_disk_bytes)} free` : ""]);
  if (report.download_bytes) rows.push(["Download", bytes(report.download_bytes), "before the first step"]);
  if (report.licence) rows.push(["Licence", report.licence]);
  if (report.resume_step != null)
    rows.push(["Resumes", `from step ${report.resume_step.toLocaleString("en")}`, asideWords(report.superseded_steps)]);
  if (report.output_folder) rows.push(["Output", report.output_folder]);
  if (!rows.length) return null;
  return (
    <dl className="facts costs">
      {rows.map(([name, value, more]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>
            <span className="figure">{value}</span> {more && <span className="hint">{more}</span>}
          </dd>
        </div>
      ))}
    </dl>
  );
}

function asideWords(steps: number[]): string {
  return steps.length ? `later checkpoints (${steps.length === 1 ? "step" : "steps"} ${steps.join(", ")}) will be moved to “superseded”` : "";
}
