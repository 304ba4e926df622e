/** A value that outlives the tab. */
import { useCallback, useState } from "react";

export function useStored<T extends string>(key: string, first: T): [T, (value: T) => void] {
  const [value, setValue] = useState(() => (localStorage.getItem(key) as T | null) ?? first);
  const store = useCallback(
    (next: T) => {
      setValue(next);
      try {
        localStorage.setItem(key, next);
      } catch {
        // a full or forbidden store: the value lives as long as the page
      }
    },
    [key],
  );
  return [value, store];
}
