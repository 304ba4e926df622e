/** Points of a running job's curves that came by the event stream, to be drawn behind those that were fetched. */
import type { Series } from "../generated/api";

/** Kinds of events whose figures are curves too, named as the server names them: `memory/ram_bytes`. */
const CURVES_OF = new Set(["memory", "scores", "metric", "metrics"]);

/** Between two drawings: steps of a tiny model come quicker than anybody reads them. */
const REDRAW_MS = 500;

export class LiveSeries {
  private readonly points = new Map<string, { steps: number[]; values: number[] }>();
  private step = 0;
  private readonly listeners = new Set<() => void>();
  private told = -Infinity;
  private waits = false;
  version = 0;

  add(events: readonly Record<string, unknown>[]): void {
    for (const event of events) {
      if (typeof event["step"] === "number") this.step = event["step"];
      const kind = String(event["kind"]);
      if (kind === "step") this.record(event, "");
      else if (kind === "validation") this.record(meansOf(event), "validation/");
      else if (CURVES_OF.has(kind)) this.record(event, `${kind}/`);
    }
    this.changed();
  }

  /** Forget what lies at or before a step: a fetch has brought it. */
  forgetUpTo(step: number): void {
    for (const points of this.points.values()) {
      const place = points.steps.findIndex((each) => each > step);
      const cut = place < 0 ? points.steps.length : place;
      points.steps.splice(0, cut);
      points.values.splice(0, cut);
    }
  }

  get numPoints(): number {
    return Math.max(0, ...[...this.points.values()].map((points) => points.steps.length));
  }

  get keys(): string[] {
    return [...this.points.keys()];
  }

  /** A fetched curve with the live points behind it. */
  extend(series: Series): Series {
    const points = this.points.get(series.key);
    if (!points) return series;
    const last = series.steps.at(-1) ?? -1;
    const from = points.steps.findIndex((step) => step > last);
    if (from < 0) return series;
    const values = points.values.slice(from);
    return {
      key: series.key,
      steps: [...series.steps, ...points.steps.slice(from)],
      low: [...series.low, ...values],
      mean: [...series.mean, ...values],
      high: [...series.high, ...values],
    };
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  private record(event: Record<string, unknown>, prefix: string): void {
    for (const [key, value] of Object.entries(event)) {
      if (key === "step" || key === "time" || key === "kind") continue;
      if (typeof value === "number") this.push(prefix + key, value);
      else if (value && typeof value === "object" && !Array.isArray(value))
        this.record(value as Record<string, unknown>, `${prefix}${key}/`);
    }
  }

  private push(key: string, value: number): void {
    let points = this.points.get(key);
    if (!points) this.points.set(key, (points = { steps: [], values: [] }));
    // a resumed run goes back: what lay ahead of it is no more
    while (points.steps.length && points.steps.at(-1)! >= this.step) {
      points.steps.pop();
      points.values.pop();
    }
    points.steps.push(this.step);
    points.values.push(value);
  }

  private changed(): void {
    if (this.waits) return;
    const wait = this.told + REDRAW_MS - performance.now();
    if (wait <= 0) return this.tell();
    this.waits = true;
    setTimeout(() => this.tell(), wait);
  }

  private tell(): void {
    this.waits = false;
    this.told = performance.now();
    this.version += 1;
    for (const listener of this.listeners) listener();
  }
}

/** The mean of each kind of images in a round of validation, of each band of noise in it, and of the gap. */
function meansOf(event: Record<string, unknown>): Record<string, unknown> {
  const means: Record<string, unknown> = {};
  for (const [kind, found] of Object.entries({ ...inner(event["figures"]), gap: event["gap"] })) {
    means[kind] = inner(found)["mean"];
    for (const [band, within] of Object.entries(inner(inner(found)["bands"]))) means[`${kind}/${band}`] = inner(within)["mean"];
  }
  return means;
}

function inner(value: unknown): Record<string, unknown> {
  return value && typeof value === "object" && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
}
