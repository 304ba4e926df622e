/** Server-sent events from a `fetch` body: EventSource cannot send the header that carries the token. */

export interface SseMessage {
  id: string | null;
  event: string;
  data: string;
}

/** Cuts a text stream into messages. Feed it pieces as they come; it keeps what is not finished yet. */
export class SseParser {
  private rest = "";
  private id: string | null = null;
  private event = "";
  private data: string[] = [];

  feed(text: string): SseMessage[] {
    const found: SseMessage[] = [];
    const all = this.rest + text;
    // a \r at the very end may be the first half of \r\n
    const end = all.endsWith("\r") ? all.length - 1 : all.length;
    const lines = all.slice(0, end).split(/\r\n|\n|\r/);
    this.rest = lines.pop()! + all.slice(end);
    for (const line of lines) {
      if (line === "") this.finish(found);
      else this.field(line);
    }
    return found;
  }

  private field(line: string): void {
    if (line.startsWith(":")) return;
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") this.data.push(value);
    else if (name === "event") this.event = value;
    else if (name === "id" && !value.includes("\0")) this.id = value;
  }

  private finish(found: SseMessage[]): void {
    if (this.data.length) found.push({ id: this.id, event: this.event || "message", data: this.data.join("\n") });
    this.event = "";
    this.data = [];
  }
}

/** Wait before the n-th attempt: 0.5 s, doubled each time up to 15 s, each with a random share off. */
export function backOff(attempt: number, random: () => number = Math.random): number {
  return Math.min(15_000, 500 * 2 ** attempt) * (0.7 + 0.3 * random());
}

export type StreamState = "connecting" | "live" | "lost" | "refused";

export interface StreamOptions {
  url: string;
  token: () => string | null;
  lastId?: string | null;
  signal: AbortSignal;
  onMessage: (message: SseMessage) => void;
  onState?: (state: StreamState) => void;
  /** for tests */
  fetch?: typeof fetch;
  sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
  /** no byte for this long: the connection is dead (the server sends a comment every 15 s) */
  silenceMs?: number;
}

/** Read the stream until `signal` aborts: connects again with the last id, waiting longer after each failure. */
export async function readStream(options: StreamOptions): Promise<void> {
  const { signal, onState = () => {}, sleep = pause } = options;
  let lastId = options.lastId ?? null;
  let attempt = 0;
  const onMessage = (message: SseMessage) => {
    attempt = 0;
    if (message.id) lastId = message.id;
    options.onMessage(message);
  };
  while (!signal.aborted) {
    onState("connecting");
    const status = await readOnce({ ...options, lastId, onMessage, onState });
    if (signal.aborted) return;
    if (status === 401 || status === 403) {
      onState("refused");
      return;
    }
    onState("lost");
    await sleep(backOff(attempt++), signal);
  }
}

/** One connection. Gives the HTTP status, or 0 if there was no answer. */
async function readOnce(options: StreamOptions): Promise<number> {
  const send = options.fetch ?? fetch;
  const headers: Record<string, string> = { Accept: "text/event-stream" };
  const token = options.token();
  if (token) headers["Authorization"] = `Bearer ${token}`;
  if (options.lastId) headers["Last-Event-ID"] = options.lastId;
  const connection = new AbortController();
  const abort = () => connection.abort();
  options.signal.addEventListener("abort", abort);
  let watchdog: ReturnType<typeof setTimeout> | undefined;
  const heard = () => {
    clearTimeout(watchdog);
    watchdog = setTimeout(abort, options.silenceMs ?? 40_000);
  };
  try {
    heard();
    const response = await send(options.url, { headers, signal: connection.signal, cache: "no-store" });
    if (!response.ok || !response.body) return response.status;
    options.onState?.("live");
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    const parser = new SseParser();
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return response.status;
      heard();
      for (const message of parser.feed(decoder.decode(value, { stream: true }))) options.onMessage(message);
    }
  } catch {
    return 0; // no network, a cut connection, or ours to end: the caller looks at the signal
  } finally {
    clearTimeout(watchdog);
    options.signal.removeEventListener("abort", abort);
    connection.abort();
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
