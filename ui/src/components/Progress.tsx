/** A bar that fills; with no total it says only that something goes on. */

interface Props {
  done: number;
  total: number;
  label: string;
  tone?: string;
}

export function Progress({ done, total, label, tone = "live" }: Props) {
  const share = total > 0 ? Math.min(1, done / total) : 0;
  return (
    <div
      className={`progress tone-${tone}`}
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={total > 0 ? total : undefined}
      aria-valuenow={total > 0 ? done : undefined}
    >
      <div className="progress-fill" style={{ transform: `scaleX(${share})` }} />
    </div>
  );
}
