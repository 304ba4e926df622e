import { describe, expect, it } from "vitest";
import { backOff, readStream, SseParser, type SseMessage, type StreamState } from "./sse";

const whole = 'id: a-1\ndata: {"kind":"jobs"}\n\n: keep-alive\n\nid: a-2\r\nevent: x\r\ndata: one\r\ndata: two\r\n\r\n';

function body(text: string): Response {
  return new Response(text, { headers: { "content-type": "text/event-stream" } });
}

describe("SseParser", () => {
  it("gives the same messages however the text is cut", () => {
    const expected = new SseParser().feed(whole);
    expect(expected).toEqual([
      { id: "a-1", event: "message", data: '{"kind":"jobs"}' },
      { id: "a-2", event: "x", data: "one\ntwo" },
    ]);
    for (let size = 1; size < 12; size += 1) {
      const parser = new SseParser();
      const found: SseMessage[] = [];
      for (let at = 0; at < whole.length; at += size) found.push(...parser.feed(whole.slice(at, at + size)));
      expect(found).toEqual(expected);
    }
  });

  it("keeps a message that has not ended", () => {
    const parser = new SseParser();
    expect(parser.feed("data: half")).toEqual([]);
    expect(parser.feed("\n\n")).toHaveLength(1);
  });
});

describe("readStream", () => {
  /** A stream over answers that are given one after the other; ends after the last. */
  async function play(answers: (Response | Error)[], onMessage: (message: SseMessage) => void = () => {}) {
    const stop = new AbortController();
    const sent: (string | null)[] = [];
    const states: StreamState[] = [];
    const waits: number[] = [];
    await readStream({
      url: "/api/events",
      token: () => "secret",
      signal: stop.signal,
      onMessage,
      onState: (state) => states.push(state),
      sleep: async (ms) => {
        waits.push(ms);
        if (!answers.length) stop.abort();
      },
      fetch: async (_url, init) => {
        const headers = new Headers(init!.headers);
        expect(headers.get("authorization")).toBe("Bearer secret");
        sent.push(headers.get("last-event-id"));
        const answer = answers.shift()!;
        if (answer instanceof Error) throw answer;
        return answer;
      },
    });
    return { sent, states, waits };
  }

  it("connects again with the last id that it has seen", async () => {
    const { sent } = await play([body(whole), body("")]);
    expect(sent).toEqual([null, "a-2"]);
  });

  it("waits longer after each failure, and begins anew after a message", async () => {
    const lost = new Error("no network");
    const { waits } = await play([lost, lost, lost, lost, body(whole), lost]);
    expect(waits[3]!).toBeGreaterThan(waits[0]! * 3);
    expect(waits[4]!).toBeLessThan(600);
  });

  it("gives up where the token is refused", async () => {
    const { states, sent } = await play([new Response("", { status: 401 }), body(whole)]);
    expect(states.at(-1)).toBe("refused");
    expect(sent).toHaveLength(1);
  });
});

it("never waits longer than 15 seconds", () => {
  expect(backOff(50, () => 1)).toBe(15_000);
  expect(backOff(0, () => 0)).toBe(350);
});
