import { describe, expect, it } from "vitest";
import { progress, row } from "../test/fixtures";
import { iconOf, signOf, titleOf } from "./tabSign";

const at = (id: string, step: number, given = {}) =>
  row({ id, name: id, state: "training", progress: progress({ step, total_steps: 200 }), ...given });

describe("signOf", () => {
  it("speaks of nothing where nothing runs", () => {
    expect(signOf([row({ state: "done" }), row({ state: "queued" })], null)).toBeNull();
  });

  it("speaks of the job whose page is open, else of the one that is furthest, and counts the others", () => {
    const jobs = [at("cats", 20), at("dogs", 87)];
    expect(signOf(jobs, null)?.words).toBe("43 % dogs +1");
    expect(signOf(jobs, "cats")?.words).toBe("10 % cats +1");
    expect(signOf(jobs, "gone")?.words).toBe("43 % dogs +1");
  });

  it("never says 100 % before the last step", () => {
    expect(signOf([at("cats", 199)], null)?.percent).toBe(99);
  });

  it("says what a job does that has no steps yet, and what is wrong with one that stands still", () => {
    expect(signOf([at("cats", 0, { state: "encoding" })], null)).toEqual({ percent: null, words: "Encoding cats", isBad: false });
    expect(signOf([at("cats", 50, { state: "unresponsive" })], null)?.words).toBe("Not responding cats");
  });
});

describe("titleOf", () => {
  it("puts progress first", () => {
    expect(titleOf("Jobs", signOf([at("cats", 87)], null))).toBe("43 % cats · Jobs");
    expect(titleOf("Jobs", null)).toBe("Jobs · Trainer");
  });
});

describe("iconOf", () => {
  it("fills a ring by the share of the steps", () => {
    const drawing = decodeURIComponent(iconOf(signOf([at("cats", 50)], null))!);
    expect(drawing).toContain('stroke-dasharray="18.8 75.4"');
    expect(iconOf(null)).toBeNull();
  });

  it("holds nothing of what a job is called", () => {
    expect(iconOf(signOf([at('"/><script>', 50)], null))).not.toContain("script");
  });
});
