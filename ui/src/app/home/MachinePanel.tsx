/** Cards, RAM and disks as bars with their figures. */
import { Link } from "wouter";
import { Progress } from "../../components/Progress";
import { Legend, StackedBar, type Part } from "../../components/StackedBar";
import type { DiskInfo, GpuInfo, JobRow, Machine } from "../../generated/api";
import { bytes, percent } from "../../lib/format";

export function MachinePanel({ machine, jobs }: { machine: Machine; jobs: JobRow[] }) {
  return (
    <section aria-label="Machine" className="tiles">
      {machine.dist_is_stale && (
        <p className="banner tone-warn tile-wide">
          This page is older than its source code. Rebuild it with <code>cd ui &amp;&amp; npm run build</code>.
        </p>
      )}
      {machine.gpus.map((gpu) => (
        <GpuTile key={gpu.index} gpu={gpu} job={jobs.find((job) => job.id === gpu.job_id)} />
      ))}
      {!machine.gpus.length && (
        <div className="tile">
          <h2>GPU</h2>
          <p className="tile-figure">None found</p>
          <p className="hint">Jobs run on the CPU: fine for the tiny model, too slow for the others.</p>
        </div>
      )}
      <Tile
        title="RAM"
        used={machine.ram_bytes - machine.free_ram_bytes}
        total={machine.ram_bytes}
        hint={`CPU ${percent(machine.cpu_load)}`}
      />
      {distinct(machine.disks).map((disk) => (
        <Tile
          key={disk.root}
          title="Disk"
          used={disk.total_bytes - disk.free_bytes}
          total={disk.total_bytes}
          hint={`${bytes(disk.free_bytes)} free in ${disk.root}`}
        />
      ))}
    </section>
  );
}

/** Roots on the same disk as one. */
function distinct(disks: DiskInfo[]): DiskInfo[] {
  const found = new Map<string, DiskInfo>();
  for (const disk of disks) {
    const key = `${disk.total_bytes}/${Math.round(disk.free_bytes / 2 ** 26)}`;
    const other = found.get(key);
    found.set(key, other ? { ...other, root: `${other.root}, ${disk.root}` } : disk);
  }
  return [...found.values()];
}

function GpuTile({ gpu, job }: { gpu: GpuInfo; job: JobRow | undefined }) {
  const facts = [
    gpu.load != null && `load ${percent(gpu.load)}`,
    gpu.temperature_c != null && `${Math.round(gpu.temperature_c)} °C`,
    gpu.power_w != null && `${Math.round(gpu.power_w)} W`,
  ].filter(Boolean);
  return (
    <div className="tile">
      <h2>
        GPU {gpu.index} <span className="hint">{gpu.name}</span>
      </h2>
      <p className="tile-figure">
        {bytes(gpu.used_bytes)} <span className="hint">of {bytes(gpu.total_bytes)}</span>
      </p>
      {gpu.job_bytes != null && job ? (
        <GpuParts gpu={gpu} held={gpu.job_bytes} name={job.name} />
      ) : (
        <Progress done={gpu.used_bytes} total={gpu.total_bytes} label={`Memory of GPU ${gpu.index}`} />
      )}
      <p className="hint">
        {facts.join(" · ") || "No data from the driver"}
        {job && (
          <>
            {" · "}
            <Link href={`/jobs/${job.id}`}>{job.name}</Link>
          </>
        )}
      </p>
    </div>
  );
}

/** Whose memory it is. What the driver itself takes for a program counts among the others: no job can tell. */
function GpuParts({ gpu, held, name }: { gpu: GpuInfo; held: number; name: string }) {
  const parts: Part[] = [
    { name, value: held, series: 0 },
    { name: "Other programs and driver", value: gpu.used_bytes - held, series: "rest" },
    { name: "Free", value: gpu.total_bytes - gpu.used_bytes, series: "free" },
  ];
  return (
    <>
      <StackedBar label={`Memory of GPU ${gpu.index}, ${bytes(gpu.total_bytes)}`} parts={parts} limit={null} />
      <Legend parts={parts} />
    </>
  );
}

function Tile({ title, used, total, hint }: { title: string; used: number; total: number; hint: string }) {
  return (
    <div className="tile">
      <h2>{title}</h2>
      <p className="tile-figure">
        {bytes(used)} <span className="hint">of {bytes(total)}</span>
      </p>
      <Progress done={used} total={total} label={`${title} in use`} tone={used / total > 0.92 ? "warn" : "live"} />
      <p className="hint">{hint}</p>
    </div>
  );
}
