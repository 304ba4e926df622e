/** What each state of a job means to a reader: word, tone, icon, and whether it lives. */
import type { Controls, JobDetail, JobRow } from "../generated/api";

export type JobState = JobRow["state"];
export type Action = Controls["actions"][number];

export type Tone = "live" | "wait" | "good" | "bad" | "warn" | "quiet";

export interface StateLook {
  word: string;
  tone: Tone;
  icon: string;
}

export const STATES: Record<JobState, StateLook> = {
  draft: { word: "Draft", tone: "quiet", icon: "pencil" },
  queued: { word: "Queued", tone: "wait", icon: "clock" },
  paused: { word: "Paused", tone: "wait", icon: "pause" },
  starting: { word: "Starting", tone: "live", icon: "spinner" },
  checking: { word: "Checking", tone: "live", icon: "spinner" },
  encoding: { word: "Encoding", tone: "live", icon: "spinner" },
  loading: { word: "Loading", tone: "live", icon: "spinner" },
  training: { word: "Training", tone: "live", icon: "play" },
  sampling: { word: "Sampling", tone: "live", icon: "picture" },
  saving: { word: "Saving", tone: "live", icon: "save" },
  captioning: { word: "Captioning", tone: "live", icon: "pencil" },
  stopping: { word: "Stopping", tone: "warn", icon: "stop" },
  done: { word: "Done", tone: "good", icon: "check" },
  failed: { word: "Failed", tone: "bad", icon: "cross" },
  refused: { word: "Needs fixing", tone: "bad", icon: "forbidden" },
  interrupted: { word: "Interrupted", tone: "warn", icon: "pause" },
  stopped: { word: "Stopped", tone: "warn", icon: "stop" },
  killed: { word: "Killed", tone: "bad", icon: "bolt" },
  rebooted: { word: "Ended by reboot", tone: "bad", icon: "bolt" },
  unresponsive: { word: "Not responding", tone: "bad", icon: "alert" },
  elsewhere: { word: "Running elsewhere", tone: "quiet", icon: "arrow" },
  lost: { word: "Folder lost", tone: "bad", icon: "alert" },
};

/** The kind of a job that draws. */
export const PICTURES = "pictures";
/** Of one that proposes captions. */
export const CAPTIONS = "captions";

const LIVE = new Set<JobState>(["starting", "checking", "encoding", "loading", "training", "sampling", "saving", "captioning"]);
const NEEDS_ME = new Set<JobState>(["failed", "refused", "killed", "rebooted", "unresponsive", "lost"]);

/** Whether a process works on the job. */
export function isLive(state: JobState): boolean {
  return LIVE.has(state) || state === "stopping" || state === "unresponsive" || state === "lost";
}

export function needsMe(state: JobState): boolean {
  return NEEDS_ME.has(state);
}

export const GROUPS = {
  all: "All",
  live: "Running",
  waiting: "Waiting",
  attention: "Needs attention",
  ended: "Finished",
} as const;
export type Group = keyof typeof GROUPS;

export function groupOf(state: JobState): Exclude<Group, "all"> {
  if (needsMe(state)) return "attention";
  if (isLive(state) || state === "elsewhere") return "live";
  if (state === "draft" || state === "queued" || state === "paused") return "waiting";
  return "ended";
}

/** The server's words for stopping, with the step of now: the steps since they were said came by the stream. */
export function stopLabel({ controls, progress }: Pick<JobDetail, "controls" | "progress">): string {
  const words = controls.stop_label || "Stop";
  return progress ? words.replace(/step [\d,]+/, `step ${progress.step.toLocaleString("en")}`) : words;
}
