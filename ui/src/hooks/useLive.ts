/** The event stream of the page: one for all tabs, applied to what the page knows. */
import { useQueryClient } from "@tanstack/react-query";
import { createContext, useContext, useEffect, useState } from "react";
import type { Message } from "../generated/api";
import { storedToken } from "../lib/api";
import { followShared } from "../lib/leader";
import { applyMessage } from "../lib/live";
import type { StreamState } from "../lib/sse";

export const LiveContext = createContext<StreamState>("connecting");

export const useLiveState = () => useContext(LiveContext);

/** @param onEvery is called with the text of every message, also while nobody sees the page */
export function useLiveStream(onEvery: (data: string) => void): StreamState {
  const client = useQueryClient();
  const [state, setState] = useState<StreamState>("connecting");
  useEffect(() => {
    const stop = new AbortController();
    let wasLost = false;
    // a page that nobody sees passes messages over; when it is shown again, it asks for everything anew
    let hasMissed = false;
    const catchUp = () => {
      if (document.hidden || !hasMissed) return;
      hasMissed = false;
      applyMessage(client, { kind: "reset" } as Message);
    };
    document.addEventListener("visibilitychange", catchUp, { signal: stop.signal });
    followShared({
      url: "/api/events",
      name: "trainer-events",
      token: storedToken,
      signal: stop.signal,
      onMessage: ({ data }) => {
        onEvery(data);
        hasMissed ||= document.hidden;
        if (document.hidden) return;
        try {
          applyMessage(client, JSON.parse(data) as Message);
        } catch {
          void client.invalidateQueries(); // a message of another version: ask again instead
        }
      },
      onState: (next) => {
        // requests that failed while the server was away are sent again
        if (next === "live" && wasLost) void client.invalidateQueries();
        wasLost = next === "lost" || (wasLost && next !== "live");
        setState(next);
      },
    });
    return () => stop.abort();
  }, [client, onEvery]);
  return state;
}
