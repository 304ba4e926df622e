/** The samples matrix: pictures keyed by (step, prompt), so that a missing one shifts nothing. */
import type { Sample, Samples } from "../generated/api";

export interface Column {
  index: number;
  prompt: string;
}

export class SampleMatrix {
  readonly steps: number[];
  readonly columns: Column[];
  private readonly cells = new Map<string, Sample>();

  constructor(samples: Samples) {
    const steps = new Set<number>();
    const indices = new Set<number>();
    for (const sample of samples.samples) {
      const key = `${sample.step}/${sample.index}`;
      const other = this.cells.get(key);
      // a step that was drawn twice, by a resumed run: the newer picture counts
      if (!other || other.time <= sample.time) this.cells.set(key, sample);
      steps.add(sample.step);
      indices.add(sample.index);
    }
    this.steps = [...steps].sort((a, b) => a - b);
    this.columns = [...indices]
      .sort((a, b) => a - b)
      .map((index) => ({ index, prompt: samples.prompts[index] ?? this.promptOf(index) ?? `Prompt ${index + 1}` }));
  }

  at(step: number, index: number): Sample | undefined {
    return this.cells.get(`${step}/${index}`);
  }

  /** The picture of this prompt at this step, or the newest one before it. */
  upTo(step: number, index: number): Sample | undefined {
    for (let place = this.steps.length - 1; place >= 0; place -= 1) {
      const found = this.steps[place]! <= step ? this.at(this.steps[place]!, index) : undefined;
      if (found) return found;
    }
    return undefined;
  }

  /** The first picture of a prompt: what the model drew before it learned anything. */
  baseline(index: number): Sample | undefined {
    for (const step of this.steps) {
      const found = this.at(step, index);
      if (found) return found;
    }
    return undefined;
  }

  /** Every picture of a prompt, in the order of steps. */
  row(index: number): Sample[] {
    return this.steps.flatMap((step) => this.at(step, index) ?? []);
  }

  get count(): number {
    return this.cells.size;
  }

  starred(): Sample[] {
    return [...this.cells.values()].filter((sample) => sample.is_starred);
  }

  private promptOf(index: number): string | null {
    for (const sample of this.cells.values()) if (sample.index === index && sample.prompt) return sample.prompt;
    return null;
  }
}

/** The step of `steps` that lies nearest to `step`. */
export function nearestStep(steps: readonly number[], step: number): number | undefined {
  let best: number | undefined;
  for (const each of steps) if (best === undefined || Math.abs(each - step) < Math.abs(best - step)) best = each;
  return best;
}
