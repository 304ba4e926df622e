/** What part of a picture is seen: scale 1 fits it into its frame; x and y move it, in shares of the frame. */
export interface View {
  scale: number;
  x: number;
  y: number;
}

export const FIT: View = { scale: 1, x: 0, y: 0 };
const LARGEST = 16;

/** Zoom by a factor so that the point under the pointer stays there. `at`: 0 to 1 from the frame's left and top. */
export function zoomAt(view: View, factor: number, at: { x: number; y: number }): View {
  const scale = Math.min(LARGEST, Math.max(1, view.scale * factor));
  const grown = scale / view.scale;
  const [cx, cy] = [at.x - 0.5, at.y - 0.5];
  return clamped({ scale, x: cx - (cx - view.x) * grown, y: cy - (cy - view.y) * grown });
}

export function pan(view: View, dx: number, dy: number): View {
  return clamped({ ...view, x: view.x + dx, y: view.y + dy });
}

/** No further than the picture's edge. */
function clamped({ scale, x, y }: View): View {
  const most = (scale - 1) / 2;
  const within = (value: number) => Math.min(most, Math.max(-most, value)) || 0;
  return { scale, x: within(x), y: within(y) };
}

export function cssTransform({ scale, x, y }: View): string {
  return `translate(${(100 * x).toFixed(3)}%, ${(100 * y).toFixed(3)}%) scale(${scale.toFixed(4)})`;
}
