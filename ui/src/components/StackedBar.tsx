/** Amounts beside each other against a limit: memory by what takes it. The figures stand below, for every reader. */
import { bytes } from "../lib/format";

export interface Part {
  name: string;
  value: number;
  /** number of its colour, the same wherever the part stands */
  series: number | "rest" | "free";
}

interface Props {
  label: string;
  parts: Part[];
  limit: number | null;
  limitName?: string;
}

export function StackedBar({ label, parts, limit, limitName = "card" }: Props) {
  const sum = parts.reduce((total, part) => total + part.value, 0);
  const scale = Math.max(sum, limit ?? 0) || 1;
  const isOver = limit != null && sum > limit;
  return (
    <div className="stacked" role="img" aria-label={`${label}: ${bytes(sum)}${limit ? ` of ${bytes(limit)}` : ""}`}>
      <div className={`stacked-bar ${isOver ? "is-over" : ""}`}>
        {parts.map((part) => (
          <span
            key={part.name}
            className={`stacked-part series-${part.series}`}
            style={{ width: `${(100 * part.value) / scale}%` }}
            title={`${part.name}: ${bytes(part.value)}`}
          />
        ))}
        {limit != null && (
          <span
            className="stacked-limit"
            style={{ left: `${Math.min(100, (100 * limit) / scale)}%` }}
            title={`${limitName}: ${bytes(limit)}`}
          />
        )}
      </div>
    </div>
  );
}

export function Legend({ parts }: { parts: Part[] }) {
  return (
    <ul className="legend">
      {parts.map((part) => (
        <li key={part.name}>
          <span className={`swatch series-${part.series}`} aria-hidden="true" />
          {part.name} <span className="figure">{bytes(part.value)}</span>
        </li>
      ))}
    </ul>
  );
}
