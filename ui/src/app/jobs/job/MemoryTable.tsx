/** Memory of each stage: what was predicted, what was measured. */
import type { MemoryUse } from "../../../generated/api";
import { bytes, duration } from "../../../lib/format";

export function MemoryTable({ stages }: { stages: MemoryUse[] }) {
  if (!stages.length) return null;
  const hasGpu = stages.some((stage) => stage.predicted_gpu_bytes || stage.measured_gpu_bytes);
  return (
    <section aria-label="Memory">
      <h2>Memory and time per stage</h2>
      <div className="table-wrap">
        <table className="table">
          <thead>
            <tr>
              <th scope="col">Stage</th>
              {hasGpu && <th scope="col" className="num">GPU, predicted</th>}
              {hasGpu && <th scope="col" className="num">GPU, measured</th>}
              <th scope="col" className="num">RAM, predicted</th>
              <th scope="col" className="num">RAM, measured</th>
              <th scope="col" className="num">Time</th>
            </tr>
          </thead>
          <tbody>
            {stages.map((stage) => (
              <tr key={stage.stage}>
                <th scope="row">{stage.stage}</th>
                {hasGpu && <td className="num">{bytes(stage.predicted_gpu_bytes)}</td>}
                {hasGpu && <td className="num">{bytes(stage.measured_gpu_bytes)}</td>}
                <td className="num">{bytes(stage.predicted_ram_bytes)}</td>
                <td className="num">{bytes(stage.measured_ram_bytes)}</td>
                <td className="num">{duration(stage.duration_s)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
