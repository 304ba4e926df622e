import { expect, it, vi } from "vitest";
import { aligned, chartsOf, csvOf, thinned, titleOf } from "./charts";
import { ago, bytes, duration, figure } from "./format";
import { LiveSeries } from "./liveSeries";
import { pieces, visible } from "./logText";
import { smooth } from "./smoothing";
import { FIT, pan, zoomAt } from "./viewport";

const series = (key: string, steps: number[], mean: number[]) => ({ key, steps, mean, low: mean, high: mean });

it("smooths without a bias at the start, and leaves gaps alone", () => {
  expect(smooth([1, 2, 3], [4, 4, 4], 0.9)).toEqual([4, 4, 4].map((value) => expect.closeTo(value)));
  expect(smooth([1, 2], [4, null], 0.9)[1]).toBeNull();
  expect(smooth([1, 2], [4, 6], 0)).toEqual([4, 6]);
});

it("smooths a thinned curve like the whole one", () => {
  const steps = Array.from({ length: 400 }, (_, place) => place);
  const values = steps.map((step) => 1 + step / 400);
  const full = smooth(steps, values, 0.95);
  const thin = smooth(steps.filter((step) => step % 10 === 0), values.filter((_, place) => place % 10 === 0), 0.95);
  expect(Math.abs(full[390]! - thin[39]!)).toBeLessThan(0.02);
});

it("puts live points behind fetched ones and goes back with a resumed run", () => {
  const live = new LiveSeries();
  const step = (number: number, loss: number) => ({ kind: "step", step: number, loss, terms: { velocity: loss } });
  live.add([step(1, 0.1), step(2, 0.2), step(3, 0.3)]);
  expect(live.extend(series("loss", [1, 2], [1, 2])).mean).toEqual([1, 2, 0.3]);
  expect(live.keys).toContain("terms/velocity");
  live.add([step(2, 0.9)]);
  expect(live.extend(series("loss", [], [])).steps).toEqual([1, 2]);
  live.forgetUpTo(2);
  expect(live.numPoints).toBe(0);
});

it("names a figure of the stream as the server names it", () => {
  const live = new LiveSeries();
  live.add([{ kind: "step", step: 1, loss: 1 }, { kind: "memory", time: 2, ram_bytes: 3 }]);
  expect(live.keys).toContain("memory/ram_bytes");
  expect(titleOf("memory/ram_bytes")).toBe("RAM");
});

it("groups curves into charts, the loss first", () => {
  const charts = chartsOf(["gpu_bytes", "zeta", "lr", "loss", "ram_bytes", "terms.velocity"]);
  expect(charts.map((chart) => chart.id)).toEqual(["loss", "lr", "memory", "zeta"]);
  expect(chartsOf(["loss", "terms.a", "terms.b"]).map((chart) => chart.keys.length)).toEqual([1, 2]);
});

it("shows losses by noise and by dataset beside the loss, each by its name", () => {
  const live = new LiveSeries();
  live.add([{ kind: "step", step: 1, loss: 1, grad_norm: 2, loss_by_noise: { "0-0.25": 1 }, grad_by_noise: { "0-0.25": 2 } }]);
  const charts = chartsOf([...live.keys, "loss_by_dataset/0 cats"]);
  expect(charts.map((chart) => chart.id)).toEqual(["loss", "loss_by_noise", "loss_by_dataset", "grad_norm", "grad_by_noise"]);
  expect(charts[1]!.title).toBe("Loss, by share of noise");
  expect(titleOf("loss_by_noise/0-0.25")).toBe("Noise 0-0.25");
  expect(titleOf("loss_by_dataset/0 cats")).toBe("Dataset 0 cats");
  live.add([{ kind: "scores", step: 8, similarity: 0.5, drift: 0.1 }]);
  const scores = live.keys.filter((key) => key.startsWith("scores/"));
  expect(scores).toEqual(["scores/similarity", "scores/drift"]);
  expect(chartsOf(scores).map(({ title, keys }) => [title, ...keys.map(titleOf)])).toEqual([
    ["Picture scores", "Similarity", "Drift"],
  ]);
});

it("names the curves of a validation as the server does, changes of errors in one chart", () => {
  const live = new LiveSeries();
  const figure = { mean: -0.1, half: 0.02, num: 4 };
  const figures = { held_out: { ...figure, bands: { "0-0.25": figure } }, train: figure, preserved: figure };
  live.add([{ kind: "validation", step: 5, figures, gap: figure, best: { step: 5, mean: -0.1 } }]);
  const keys = ["held_out", "held_out/0-0.25", "train", "preserved", "gap"].map((key) => `validation/${key}`);
  expect(live.keys).toEqual(keys);
  expect(chartsOf(["lr", ...keys, "loss"]).map((chart) => [chart.id, chart.keys.length])).toEqual([
    ["loss", 1],
    ["validation", 3],
    ["validation/held_out", 1],
    ["validation/preserved", 1],
    ["lr", 1],
  ]);
});

it("writes one row for each step, empty where a curve has no point", () => {
  const both = [series("a", [1, 2], [3, 4]), series('b"', [2], [5])];
  expect(aligned(both)).toEqual({ steps: [1, 2], columns: [[3, 4], [null, 5]] });
  expect(csvOf(both)).toBe('step,a,"b"""\r\n1,3,\r\n2,4,5\r\n');
  expect(thinned(1000, 5)).toEqual([0, 250, 500, 749, 999]);
});

it("shows what would steer a terminal as text", () => {
  expect(visible("\u001b[31mred\u001b[0m \u202egnp")).toBe("␛[31mred␛[0m <U+202E>gnp");
  expect(pieces("Error: error", "ERROR").filter((piece) => piece.isHit)).toHaveLength(2);
  expect(pieces("abc", "x")).toEqual([{ text: "abc", isHit: false }]);
});

it("writes figures as people read them", () => {
  expect(bytes(25_769_803_776)).toBe("24.0 GiB");
  expect(duration(5025)).toBe("1 h 24 min");
  expect(figure(0.00012345)).toBe("1.23e-4");
  expect(ago(1000, 1_000_000 + 125_000)).toBe("2 min ago");
});

it("zooms about the pointer and never beyond the edge", () => {
  const near = zoomAt(FIT, 2, { x: 0, y: 0 });
  expect(near).toEqual({ scale: 2, x: 0.5, y: 0.5 });
  expect(pan(near, 5, -5)).toEqual({ scale: 2, x: 0.5, y: -0.5 });
  expect(zoomAt(near, 0.1, { x: 1, y: 1 })).toEqual(FIT);
});

it("draws quick steps twice a second, the last of them too", () => {
  vi.useFakeTimers();
  const live = new LiveSeries();
  let drawn = 0;
  live.subscribe(() => (drawn += 1));
  for (let step = 0; step < 40; step += 1) {
    live.add([{ kind: "step", step, loss: 1 }]);
    vi.advanceTimersByTime(50);
  }
  expect(drawn).toBeLessThanOrEqual(5);
  const before = drawn;
  live.add([{ kind: "step", step: 40, loss: 1 }]);
  vi.advanceTimersByTime(500);
  expect(drawn).toBeGreaterThan(before);
  vi.useRealTimers();
});
