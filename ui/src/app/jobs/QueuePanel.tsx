/** What waits, per card: order by drag or keys, and a switch that lets nothing more start. */
import { useState } from "react";
import { Link } from "wouter";
import { Button } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { useReorder } from "../../hooks/useActions";
import type { JobList, JobRow } from "../../generated/api";
import { useMachine } from "../../hooks/queries";
import { useStartWords } from "../../hooks/useStartWords";
import { moved, queues, queueTitle } from "../../lib/jobsList";

export function QueuePanel({ list }: { list: JobList }) {
  const reorder = useReorder();
  const machine = useMachine();
  const startOf = useStartWords();
  const waiting = [...queues(list.jobs)];
  const { is_queue_paused: isPaused } = list;
  if (!waiting.length && !isPaused) return null;
  return (
    <section className="card queue" aria-label="Queue">
      <header className="card-head">
        <h2>Queue</h2>
        {isPaused && (
          <span className="state tone-warn">
            <Icon name="pause" /> Paused: no new jobs will start
          </span>
        )}
        <Button icon={isPaused ? "play" : "pause"} onClick={() => reorder.mutate({ order: {}, is_paused: !isPaused })}>
          {isPaused ? "Resume queue" : "Pause queue"}
        </Button>
      </header>
      {waiting.map(([name, jobs]) => (
        <QueueList key={name} title={queueTitle(name, Boolean(machine.data?.gpus.length))} jobs={jobs} startOf={startOf} onOrder={(ids) => reorder.mutate({ order: { [name]: ids } })} />
      ))}
    </section>
  );
}

interface Props {
  title: string;
  jobs: JobRow[];
  startOf: (job: JobRow) => string;
  onOrder: (ids: string[]) => void;
}

function QueueList({ title, jobs, startOf, onOrder }: Props) {
  const [dragged, setDragged] = useState<number | null>(null);
  const [over, setOver] = useState<number | null>(null);
  const [said, setSaid] = useState("");
  const move = (from: number, to: number) => {
    if (to < 0 || to >= jobs.length || from === to) return;
    onOrder(moved(jobs, from, to).map((job) => job.id));
    setSaid(`${jobs[from]!.name} moved to position ${to + 1} of ${jobs.length}`);
  };
  return (
    <>
      <h3>{title}</h3>
      <ol className="queue-list" aria-label={`Waiting for ${title}`}>
        {jobs.map((job, place) => (
          <li
            key={job.id}
            draggable
            className={place === over && dragged !== null ? (dragged < place ? "drop-after" : "drop-before") : ""}
            onDragStart={(event) => {
              event.dataTransfer.effectAllowed = "move";
              event.dataTransfer.setData("text/plain", job.name);
              setDragged(place);
            }}
            onDragOver={(event) => {
              if (dragged === null) return;
              event.preventDefault();
              setOver(place);
            }}
            onDragEnd={() => (setDragged(null), setOver(null))}
            onDrop={(event) => {
              event.preventDefault();
              if (dragged !== null) move(dragged, place);
              setDragged(null);
              setOver(null);
            }}
            onKeyDown={(event) => {
              const by = event.altKey ? { ArrowUp: -1, ArrowDown: 1 }[event.key] : undefined;
              if (!by) return;
              event.preventDefault();
              move(place, place + by);
            }}
          >
            <span className="grip" aria-hidden="true">
              <Icon name="grip" />
            </span>
            <span className="figure queue-number">{place + 1}</span>
            <Link href={`/jobs/${job.id}`}>{job.name}</Link>
            <span className="reason">{job.reason}</span>
            <span className="queue-start figure hint">{startOf(job)}</span>
            <Button icon="up" look="quiet" label={`Move ${job.name} up`} disabled={place === 0} onClick={() => move(place, place - 1)} />
            <Button icon="down" look="quiet" label={`Move ${job.name} down`} disabled={place === jobs.length - 1} onClick={() => move(place, place + 1)} />
          </li>
        ))}
      </ol>
      <p className="visually-hidden" role="status">
        {said}
      </p>
    </>
  );
}
