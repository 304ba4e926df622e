/** A note and stars, kept beside the job. */
import { useState } from "react";
import { Button } from "../../../components/Button";
import { useChangeJob } from "../../../hooks/useActions";
import type { JobDetail } from "../../../generated/api";

export function Notes({ job }: { job: JobDetail }) {
  const [note, setNote] = useState<string | null>(null);
  const change = useChangeJob();
  const text = note ?? job.note;
  const save = () => {
    if (note !== null && note !== job.note) change.mutate({ id: job.id, change: { note } }, { onSuccess: () => setNote(null) });
  };
  return (
    <section aria-label="Notes" className="notes">
      <h2>Notes</h2>
      <div className="row" role="group" aria-label="Rating">
        {[1, 2, 3, 4, 5].map((stars) => (
          <Button
            key={stars}
            icon="star"
            look="quiet"
            className={stars <= job.stars ? "is-on" : ""}
            aria-pressed={stars <= job.stars}
            label={stars === job.stars ? "Remove rating" : `Rate ${stars} of 5 stars`}
            onClick={() => change.mutate({ id: job.id, change: { stars: stars === job.stars ? 0 : stars } })}
          />
        ))}
      </div>
      <label className="field">
        <span className="visually-hidden">Note</span>
        <textarea
          rows={3}
          value={text}
          placeholder="What did you try? How did it turn out?"
          onChange={(event) => setNote(event.target.value)}
          onBlur={save}
        />
      </label>
    </section>
  );
}
