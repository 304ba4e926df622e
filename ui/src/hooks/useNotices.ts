/** Keeps title and icon of the tab true, and shows notifications, also while nobody sees the page. */
import { useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { useLocation } from "wouter";
import { useToast } from "../components/Toasts";
import type { JobList, JobRow, Message, Notice, NoticeList } from "../generated/api";
import { call } from "../lib/api";
import { KEYS } from "../lib/live";
import { showNotice, unseen } from "../lib/notices";
import { setTabSign } from "../lib/tab";
import { signOf } from "../lib/tabSign";

// `kind` is the first key of each message: the many others are not even parsed in a tab that nobody sees
const OURS = /^\{"kind":"(jobs|removed|notice|reset)"/;

/** @returns what must be called with the text of every message of the event stream */
export function useNotices(): (data: string) => void {
  const client = useQueryClient();
  const [location, navigate] = useLocation();
  const toast = useToast();
  const shown = /^\/jobs\/([0-9a-f]{16})/.exec(location)?.[1] ?? null;
  const latest = useRef({ navigate, toast, shown });
  latest.current = { navigate, toast, shown };
  const rows = useRef(new Map<string, JobRow>());
  const draw = useRef(() => setTabSign(signOf(rows.current.values(), latest.current.shown)));
  useEffect(() => draw.current(), [shown]);
  useEffect(() => {
    const seed = (list: JobList | undefined) => {
      if (!list) return;
      rows.current = new Map(list.jobs.map((job) => [job.id, job]));
      draw.current();
    };
    seed(client.getQueryData<JobList>(KEYS.jobs));
    void catchUp(() => {}); // what happened before the page was opened is no news to who opens it
    const stop = client.getQueryCache().subscribe(({ type, query }) => {
      if (type === "updated" && query.queryKey[0] === KEYS.jobs[0]) seed(query.state.data as JobList | undefined);
    });
    return () => {
      stop();
      setTabSign(null);
    };
  }, [client]);
  const take = useRef((data: string) => {
    if (!OURS.test(data)) return;
    const message = JSON.parse(data) as Message;
    const say = (notice: Notice) => {
      showNotice(notice, latest.current.navigate);
      if (!notice.job_id && !document.hidden) latest.current.toast({ text: `${notice.title}. ${notice.text}`, tone: "bad" });
    };
    if (message.kind === "notice" && message.notice) {
      void client.invalidateQueries({ queryKey: ["notices"] });
      unseen([message.notice]).forEach(say);
    } else if (message.kind === "reset") {
      void catchUp(say);
      if (document.hidden) void freshRows().then((found) => ((rows.current = found), draw.current()), () => {});
    } else {
      for (const row of message.jobs ?? []) rows.current.set(row.id, row);
      if (message.kind === "removed" && message.job_id) rows.current.delete(message.job_id);
      draw.current();
    }
  });
  return take.current;
}

/** What was said while the server could not reach this page. */
async function catchUp(say: (notice: Notice) => void): Promise<void> {
  try {
    const { notices } = await call<NoticeList>("GET", "/api/notices");
    unseen(notices.toReversed()).forEach(say);
  } catch {
    // it is gone again: the next reset asks anew
  }
}

async function freshRows(): Promise<Map<string, JobRow>> {
  const { jobs } = await call<JobList>("GET", "/api/jobs?limit=5000");
  return new Map(jobs.map((job) => [job.id, job]));
}
