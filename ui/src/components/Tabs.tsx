/** A row of tabs; arrow keys move between them, only the chosen one is in the tab order. */
import { useEffect, useRef, type KeyboardEvent, type ReactNode } from "react";

interface Props<T extends string> {
  label: string;
  tabs: Record<T, ReactNode>;
  value: T;
  onChange: (value: T) => void;
  /** id of the element that the tabs switch */
  panel: string;
}

export function Tabs<T extends string>({ label, tabs, value, onChange, panel }: Props<T>) {
  const list = useRef<HTMLDivElement>(null);
  const keys = Object.keys(tabs) as T[];
  // on a narrow screen the row scrolls: the chosen tab stays in sight
  useEffect(() => {
    list.current?.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [value]);
  const move = (event: KeyboardEvent) => {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = (keys.indexOf(value) + by + keys.length) % keys.length;
    onChange(keys[next]!);
    (list.current!.children[next] as HTMLElement).focus();
  };
  return (
    <div className="tabs" role="tablist" aria-label={label} ref={list} onKeyDown={move}>
      {keys.map((key) => (
        <button
          key={key}
          type="button"
          role="tab"
          id={`${panel}-tab-${key}`}
          aria-selected={key === value}
          aria-controls={panel}
          tabIndex={key === value ? 0 : -1}
          onClick={() => onChange(key)}
        >
          {tabs[key]}
        </button>
      ))}
    </div>
  );
}

export function TabPanel({ id, tab, children }: { id: string; tab: string; children: ReactNode }) {
  return (
    <div id={id} role="tabpanel" aria-labelledby={`${id}-tab-${tab}`} className="tab-panel">
      {children}
    </div>
  );
}
