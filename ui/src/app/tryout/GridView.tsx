/** What a try-out has drawn: a column for each LoRA and strength, a row for each prompt and seed. Heads stay in sight. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { useRef, useState } from "react";
import { Link } from "wouter";
import { Button } from "../../components/Button";
import { Empty, ErrorCard, Waiting } from "../../components/Page";
import { Segmented } from "../../components/Segmented";
import { useGrid } from "../../hooks/queries";
import type { Grid, GridColumn, JobDetail } from "../../generated/api";
import { fileUrl } from "../../lib/api";
import { count } from "../../lib/format";
import { isLive } from "../../lib/states";
import { columnName } from "../../lib/tryout";
import { RowViewer } from "../jobs/job/samples/RowViewer";
import { KeepDialog } from "./KeepDialog";

const SIZES = { small: "Small", medium: "Medium", large: "Large" };
const PX = { small: 96, medium: 176, large: 320 };

export function GridView({ job }: { job: JobDetail }) {
  const { data, error } = useGrid(job.id);
  if (error && !data) return <ErrorCard error={error} title="Couldn’t load the pictures" />;
  if (!data) return <Waiting what="Loading pictures" />;
  if (!data.columns.length)
    return (
      <Empty title="Nothing is drawn yet.">
        <p>{isLive(job.state) || job.queue_position != null ? "Pictures appear here one after another." : "Start the job to draw."}</p>
      </Empty>
    );
  return <Pictures job={job} grid={data} />;
}

function Pictures({ job, grid }: { job: JobDetail; grid: Grid }) {
  const [size, setSize] = useState<keyof typeof SIZES>("medium");
  const [open, setOpen] = useState<{ row: number; column: number } | null>(null);
  const [kept, setKept] = useState<GridColumn | null>(null);
  const wrap = useRef<HTMLDivElement>(null);
  // thousands of pictures in one table take the browser seconds: only the rows in view are drawn
  const rows = useVirtualizer({ count: grid.rows.length, getScrollElement: () => wrap.current, estimateSize: () => PX[size] + 12, overscan: 4 });
  const items = rows.getVirtualItems();
  const total = grid.columns.length * grid.rows.length;
  const shown = (row: number) =>
    grid.columns.map((column, place) => {
      const file = grid.cells[place]?.[row];
      return file ? { file, label: columnName(column), alt: altOf(grid, place, row) } : undefined;
    });
  const goRow = (by: number) =>
    setOpen((now) => {
      const next = now && { ...now, row: (now.row + by + grid.rows.length) % grid.rows.length };
      return next && shown(next.row).some(Boolean) ? next : now;
    });
  return (
    <section aria-label="Pictures">
      <div className="samples-head">
        <Segmented label="Size" options={SIZES} value={size} onChange={setSize} />
        <span className="hint figure" role="status">
          {grid.num_drawn < total ? `${grid.num_drawn} of ${count(total, "picture")}` : count(total, "picture")}
        </span>
      </div>
      <div ref={wrap} className="grid-wrap" tabIndex={0} role="region" aria-label="Pictures by prompt and LoRA" style={{ "--cell": `${PX[size]}px` } as React.CSSProperties}>
        <table className="grid" aria-rowcount={grid.rows.length + 1}>
          <thead>
            <tr>
              <th scope="col">Prompt</th>
              {grid.columns.map((column, place) => (
                <th key={place} scope="col">
                  <Head column={column} onKeep={() => setKept(column)} />
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            <Gap height={items[0]?.start ?? 0} />
            {items.map(({ index: number }) => (
              <tr key={number} data-index={number} aria-rowindex={number + 2} ref={rows.measureElement}>
                <th scope="row">
                  <span className="prompt" title={grid.rows[number]!.prompt}>{grid.rows[number]!.prompt}</span>
                  <span className="hint figure">seed {grid.rows[number]!.seed}</span>
                </th>
                {grid.columns.map((_, place) => (
                  <td key={place}>
                    <Cell file={grid.cells[place]?.[number] ?? null} alt={altOf(grid, place, number)} large={size === "large"} onOpen={() => setOpen({ row: number, column: place })} />
                  </td>
                ))}
              </tr>
            ))}
            <Gap height={rows.getTotalSize() - (items.at(-1)?.end ?? 0)} />
          </tbody>
        </table>
      </div>
      {open && (
        <RowViewer
          prompt={grid.rows[open.row]!.prompt}
          what="LoRA"
          pictures={shown(open.row)}
          at={open.column}
          onMove={(column) => setOpen({ ...open, column })}
          onRow={goRow}
          onClose={() => setOpen(null)}
          foot={<span className="hint figure">seed {grid.rows[open.row]!.seed}</span>}
        />
      )}
      {kept?.path && <KeepDialog path={kept.path} first={`${kept.name}_best`} hint={`Tried in ${job.name} at strength ${kept.strength ?? 1}.`} onClose={() => setKept(null)} />}
    </section>
  );
}

/** The room of rows that are not drawn. */
function Gap({ height }: { height: number }) {
  return height > 0 ? <tr aria-hidden="true" style={{ height }} /> : null;
}

function Head({ column, onKeep }: { column: GridColumn; onKeep: () => void }) {
  return (
    <div className="grid-head">
      <strong title={column.path ?? undefined}>{column.job_id ? <Link href={`/jobs/${column.job_id}/checkpoints`}>{column.name}</Link> : column.name}</strong>
      <span className="hint figure">
        {[column.strength !== null && `× ${column.strength}`, column.step !== null && `step ${column.step.toLocaleString("en")}`].filter(Boolean).join(" · ")}
      </span>
      {column.path && (
        <Button icon="star" look="quiet" onClick={onKeep}>
          Keep this one…<span className="visually-hidden"> {columnName(column)}</span>
        </Button>
      )}
    </div>
  );
}

interface CellProps {
  file: string | null;
  alt: string;
  large: boolean;
  onOpen: () => void;
}

function Cell({ file, alt, large, onOpen }: CellProps) {
  if (!file) return <span className="grid-missing">–</span>;
  return (
    <button type="button" className="matrix-button grid-cell" onClick={onOpen}>
      <img src={fileUrl(file, { thumb: large ? 512 : 256 })} alt={alt} loading="lazy" decoding="async" />
    </button>
  );
}

function altOf(grid: Grid, column: number, row: number): string {
  const { prompt, seed } = grid.rows[row]!;
  return `${columnName(grid.columns[column]!)}, seed ${seed}: ${prompt}`;
}
