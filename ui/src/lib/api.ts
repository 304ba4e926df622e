/** Calls of the server's API: one function, typed errors, the session's token. */
import type { Problem, Session } from "../generated/api";

const TOKEN_KEY = "session-token";

/** A request that the server refused, with what it said. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly problems: Problem[],
    /** What else the answer held. */
    readonly body?: unknown,
  ) {
    super(problems.map((problem) => problem.what).join(" ") || `The server returned error ${status}.`);
  }
}

/** The server did not answer at all. */
export class Unreachable extends Error {
  constructor() {
    super("The server isn’t responding. If it was stopped, start it again with `python run.py ui`.");
  }
}

let onSignedOut: () => void = () => {};

/** Call `listener` when the server no longer knows our token. */
export function whenSignedOut(listener: () => void): void {
  onSignedOut = listener;
}

export function storedToken(): string | null {
  return sessionStorage.getItem(TOKEN_KEY);
}

export function forgetToken(): void {
  sessionStorage.removeItem(TOKEN_KEY);
}

/** Trade the printed token for a session. Throws ApiError if it is wrong. */
export async function signIn(token: string): Promise<void> {
  const session = await call<Session>("POST", "/api/session", { token });
  sessionStorage.setItem(TOKEN_KEY, session.token);
}

/** The token of an address such as `http://127.0.0.1:8675/#token=abc`, or null. */
export function tokenInFragment(hash: string): string | null {
  return new URLSearchParams(hash.replace(/^#/, "")).get("token") || null;
}

export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** Send one request and give the answer's body. A file goes as it is, anything else as JSON. */
export async function call<T>(method: Method, path: string, body?: unknown, signal?: AbortSignal): Promise<T> {
  const headers: Record<string, string> = {};
  const token = storedToken();
  if (token) headers["Authorization"] = `Bearer ${token}`;
  const isFile = body instanceof Blob;
  if (body !== undefined) headers["Content-Type"] = isFile ? "application/octet-stream" : "application/json";
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined || isFile ? body : JSON.stringify(body),
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable();
  }
  if (response.ok) return (response.status === 204 ? undefined : await response.json()) as T;
  if (response.status === 401 && path !== "/api/session") {
    forgetToken();
    onSignedOut();
  }
  const answer: unknown = await response.json().catch(() => undefined); // not JSON: an answer of a proxy in between
  throw new ApiError(response.status, problemsOf(answer), answer);
}

function problemsOf(body: unknown): Problem[] {
  return body && typeof body === "object" && "problems" in body && Array.isArray(body.problems) ? body.problems : [];
}

/** Address of a picture or a download. */
export function fileUrl(id: string, options: { thumb?: number; download?: boolean } = {}): string {
  const query = new URLSearchParams();
  if (options.thumb) query.set("thumb", String(options.thumb));
  if (options.download) query.set("download", "1");
  const text = query.toString();
  return `/files/${id.split("/").map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** What to show of any error. */
export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
