/** Saving and starting a job that is being edited, by button or key. */
import { useState, type KeyboardEvent } from "react";
import { useLocation } from "wouter";
import { useToast } from "../components/Toasts";
import type { Problem } from "../generated/api";
import { ApiError } from "../lib/api";
import { useAction, useChangeJob, useCreateJob } from "./useActions";

/** @param before the text that editing began with: another tab may have saved another one since. */
export function useSubmit(id: string | undefined, before: string, onDone: () => void) {
  const create = useCreateJob();
  const change = useChangeJob();
  const act = useAction();
  const toast = useToast();
  const [, navigate] = useLocation();
  const [problems, setProblems] = useState<Problem[]>([]);
  const [running, setRunning] = useState<"save" | "start" | null>(null);
  const send = async (text: string, start: boolean) => {
    setRunning(start ? "start" : "save");
    setProblems([]);
    try {
      const made = id ?? (await create.mutateAsync({ yaml: text, start })).id;
      if (id) {
        await change.mutateAsync({ id, change: { yaml: text, before } });
        if (start) await act.mutateAsync({ id, action: "start" });
      }
      onDone();
      if (!start) toast({ text: id ? "Job saved." : "Draft saved." });
      navigate(`/jobs/${made}`);
    } catch (error) {
      if (error instanceof ApiError) setProblems(error.problems);
    } finally {
      setRunning(null);
    }
  };
  const keys = (text: string) => (event: KeyboardEvent) => {
    if (!(event.ctrlKey || event.metaKey) || (event.key !== "Enter" && event.key !== "s")) return;
    event.preventDefault();
    void send(text, event.key === "Enter");
  };
  return {
    save: (text: string) => void send(text, false),
    start: (text: string) => void send(text, true),
    isSaving: running === "save",
    isStarting: running === "start",
    problems,
    keys,
  };
}
