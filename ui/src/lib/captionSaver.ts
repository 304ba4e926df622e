/** Captions as they are typed: kept until the server has them, and never written over what somebody else wrote. */
import type { CaptionEdit, CaptionRow, Conflict } from "../generated/api";
import { ApiError, errorText } from "./api";

/** A caption that is not, or has just been, saved. */
export interface Draft {
  text: string;
  state: "waiting" | "saving" | "saved" | "conflict" | "failed";
  /** tag of the caption that the edit began with */
  tag: string;
  /** what somebody else wrote meanwhile */
  theirs?: Conflict;
  /** why it could not be saved */
  why?: string;
}

type Send = (edit: CaptionEdit) => Promise<CaptionRow>;

export class CaptionSaver {
  private drafts = new Map<string, Draft>();
  private timers = new Map<string, ReturnType<typeof setTimeout>>();
  private listeners = new Set<() => void>();
  version = 0;

  /**
   * @param send writes one caption.
   * @param onSaved hears what was written.
   * @param delay_ms how long nothing must be typed before a caption is sent.
   */
  constructor(
    private readonly send: Send,
    private readonly onSaved: (row: CaptionRow) => void,
    private readonly delay_ms = 700,
  ) {}

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  draft(file: string): Draft | undefined {
    return this.drafts.get(file);
  }

  /** Whether something would be lost if the page were closed. */
  get isUnsaved(): boolean {
    return [...this.drafts.values()].some(({ state }) => state !== "saved");
  }

  /** Take what was typed. */
  edit(file: string, tag: string, text: string): void {
    const before = this.drafts.get(file);
    if (before?.state === "conflict") return this.put(file, { ...before, text });
    const base = before && before.state !== "saved" ? before.tag : tag;
    this.put(file, { text, tag: base, state: before?.state === "saving" ? "saving" : "waiting" });
    clearTimeout(this.timers.get(file));
    this.timers.set(file, setTimeout(() => void this.flush(file), this.delay_ms));
  }

  /** Send a caption now, if it waits. */
  async flush(file: string): Promise<void> {
    clearTimeout(this.timers.get(file));
    const draft = this.drafts.get(file);
    if (!draft || (draft.state !== "waiting" && draft.state !== "failed")) return;
    this.put(file, { ...draft, state: "saving", why: undefined });
    try {
      const row = await this.send({ file, text: draft.text, if_match: draft.tag });
      this.onSaved(row);
      const now = this.drafts.get(file)!;
      const isSame = now.text === draft.text;
      this.put(file, { text: isSame ? row.text : now.text, tag: row.tag, state: isSame ? "saved" : "waiting" });
      if (!isSame) await this.flush(file);
    } catch (error) {
      const theirs = conflictOf(error, file);
      const now = this.drafts.get(file)!;
      this.put(file, theirs ? { ...now, state: "conflict", theirs } : { ...now, state: "failed", why: errorText(error) });
    }
  }

  async flushAll(): Promise<void> {
    await Promise.all([...this.drafts.keys()].map((file) => this.flush(file)));
  }

  /** Settle a conflict: write over theirs, or let go of mine. */
  async settle(file: string, keep: "mine" | "theirs"): Promise<void> {
    const draft = this.drafts.get(file);
    if (!draft?.theirs) return;
    const { theirs } = draft;
    if (keep === "theirs") {
      this.onSaved({ file, text: theirs.theirs, tag: theirs.tag });
      this.put(file, { text: theirs.theirs, tag: theirs.tag, state: "saved" });
      return;
    }
    this.put(file, { text: draft.text, tag: theirs.tag, state: "waiting" });
    await this.flush(file);
  }

  /** Let go of what is saved: captions were changed in another way. */
  forgetSaved(): void {
    for (const [file, draft] of this.drafts) if (draft.state === "saved") this.drafts.delete(file);
    this.tell();
  }

  private put(file: string, draft: Draft): void {
    this.drafts.set(file, draft);
    this.tell();
  }

  private tell(): void {
    this.version += 1;
    for (const listener of this.listeners) listener();
  }
}

function conflictOf(error: unknown, file: string): Conflict | undefined {
  if (!(error instanceof ApiError) || error.status !== 409) return undefined;
  const { conflicts } = (error.body ?? {}) as { conflicts?: Conflict[] };
  return conflicts?.find((each) => each.file === file);
}
