/** Notifications of the browser about jobs: off until somebody turns them on in this browser. */
import type { Notice } from "../generated/api";

const WISH = "notifications";
const SEEN = "notices-seen";
const MOST_SEEN = 100;

export type NoticeState = "off" | "on" | "blocked" | "impossible";

/** Whether notifications are shown; impossible where the address is neither encrypted nor of this machine. */
export function noticeState(): NoticeState {
  if (!("Notification" in globalThis) || !globalThis.isSecureContext) return "impossible";
  if (Notification.permission === "denied") return "blocked";
  return localStorage.getItem(WISH) === "on" && Notification.permission === "granted" ? "on" : "off";
}

/** Turn them on or off; asks the browser where it wants to be asked. */
export async function wishNotices(isOn: boolean): Promise<NoticeState> {
  if (isOn && noticeState() !== "impossible") await Notification.requestPermission();
  localStorage.setItem(WISH, isOn ? "on" : "off");
  return noticeState();
}

/** Show one. The same event in another tab replaces it instead of being shown twice. */
export function showNotice({ id, title, text, job_id }: Notice, onOpen: (path: string) => void): void {
  if (noticeState() !== "on") return;
  const notice = new Notification(title, { body: text, tag: id, icon: "/favicon.svg" });
  notice.addEventListener("click", () => {
    window.focus();
    onOpen(job_id ? `/jobs/${job_id}` : "/settings");
    notice.close();
  });
}

/** Those of a list that no tab of this browser has come across; from now on they are known. */
export function unseen(list: Notice[]): Notice[] {
  const known = seen();
  const fresh = list.filter((notice) => !known.includes(notice.id));
  if (fresh.length) {
    try {
      localStorage.setItem(SEEN, JSON.stringify([...known, ...fresh.map((notice) => notice.id)].slice(-MOST_SEEN)));
    } catch {
      // a full store: at worst one is shown again after the server was away
    }
  }
  return fresh;
}

function seen(): string[] {
  try {
    const found: unknown = JSON.parse(localStorage.getItem(SEEN) ?? "[]");
    return Array.isArray(found) ? found.map(String) : [];
  } catch {
    return [];
  }
}
