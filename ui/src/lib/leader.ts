/** One tab of all holds the event stream, the others listen to it: a browser opens six connections per address. */
import { readStream, type SseMessage, type StreamState } from "./sse";

type Shared = { type: "message"; message: SseMessage } | { type: "state"; state: StreamState } | { type: "hello" };

export interface SharedStreamOptions {
  url: string;
  name: string;
  token: () => string | null;
  signal: AbortSignal;
  onMessage: (message: SseMessage) => void;
  onState: (state: StreamState) => void;
}

/**
 * Follow the stream until `signal` aborts. The tab that gets the lock reads; when it closes, the next one goes on
 * from the last id that it has heard. Without locks (an insecure address) each tab reads for itself.
 */
export function followShared(options: SharedStreamOptions): void {
  const { signal, onState } = options;
  if (!("locks" in navigator) || !("BroadcastChannel" in globalThis)) {
    void readStream(options);
    return;
  }
  const channel = new BroadcastChannel(options.name);
  let lastId: string | null = null;
  let state: StreamState = "connecting";
  let isLeader = false;
  const onMessage = (message: SseMessage) => {
    if (message.id) lastId = message.id;
    options.onMessage(message);
  };
  const setState = (next: StreamState) => {
    state = next;
    onState(next);
  };
  const share = (shared: Shared) => {
    if (!signal.aborted) channel.postMessage(shared);
  };
  channel.onmessage = ({ data }: MessageEvent<Shared>) => {
    if (data.type === "hello") {
      if (isLeader) share({ type: "state", state });
    } else if (!isLeader) {
      if (data.type === "message") onMessage(data.message);
      else setState(data.state);
    }
  };
  signal.addEventListener("abort", () => channel.close());
  share({ type: "hello" });
  const lead = async () => {
    isLeader = true;
    await readStream({
      ...options,
      lastId,
      onMessage: (message) => {
        onMessage(message);
        share({ type: "message", message });
      },
      onState: (next) => {
        setState(next);
        share({ type: "state", state: next });
      },
    });
    isLeader = false;
  };
  navigator.locks.request(options.name, { signal }, lead).catch(() => {}); // aborted while it waited
}
