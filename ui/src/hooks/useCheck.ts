/** The check of a job text as one types: the newest text wins, an answer to an older one is dropped. */
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useEffect, useState } from "react";
import type { CheckReport } from "../generated/api";
import { call } from "../lib/api";

const REST_MS = 250;

export function useDelayed<T>(value: T, ms: number = REST_MS): T {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), ms);
    return () => clearTimeout(timer);
  }, [value, ms]);
  return settled;
}

export function useCheck(text: string) {
  const yaml = useDelayed(text);
  const check = useQuery({
    queryKey: ["check", yaml],
    queryFn: ({ signal }) => call<CheckReport>("POST", "/api/check", { yaml }, signal),
    placeholderData: keepPreviousData,
    gcTime: 60_000,
    enabled: yaml.trim() !== "",
  });
  return { ...check, isOld: yaml !== text || check.isPlaceholderData };
}
