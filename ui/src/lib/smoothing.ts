/** Exponential moving average of a curve. */

/**
 * Smooth values by step: each new value counts 1 - weight. Corrected for the start, where little has been seen, and
 * steps apart count by their distance, so that a thinned curve looks like the whole one.
 *
 * @param weight 0 (raw) to below 1.
 */
export function smooth(steps: readonly number[], values: readonly (number | null)[], weight: number): (number | null)[] {
  if (weight <= 0) return [...values];
  let sum = 0;
  let total = 0;
  let last: number | undefined;
  return values.map((value, place) => {
    if (value == null || !Number.isFinite(value)) return null;
    const step = steps[place]!;
    const keep = weight ** (last === undefined ? 1 : Math.max(1, step - last));
    last = step;
    sum = sum * keep + value * (1 - keep);
    total = total * keep + (1 - keep);
    return sum / total;
  });
}
