/** Actions behind one button. Closes with Escape, with a click outside, and after a choice. */
import { useEffect, useRef, type ReactNode } from "react";

export function Menu({ label, children }: { label: string; children: ReactNode }) {
  const ref = useRef<HTMLDetailsElement>(null);
  useEffect(() => {
    const close = (event: Event) => {
      const details = ref.current;
      if (!details?.open) return;
      if (event instanceof KeyboardEvent) {
        if (event.key !== "Escape") return;
        details.open = false;
        details.querySelector("summary")?.focus();
      } else if (!details.contains(event.target as Node)) {
        details.open = false;
      }
    };
    const onResize = () => ref.current && place(ref.current);
    document.addEventListener("click", close);
    document.addEventListener("keydown", close);
    window.addEventListener("resize", onResize);
    return () => {
      document.removeEventListener("click", close);
      document.removeEventListener("keydown", close);
      window.removeEventListener("resize", onResize);
    };
  }, []);
  return (
    <details className="menu" ref={ref} onToggle={(event) => place(event.currentTarget)}>
      <summary className="button button-plain">{label}</summary>
      <div className="menu-list" onClick={() => ref.current && (ref.current.open = false)}>
        {children}
      </div>
    </details>
  );
}

/** The list ends where its button ends, unless that would put it out of the window. */
function place(details: HTMLDetailsElement): void {
  delete details.dataset["side"];
  const list = details.querySelector(".menu-list");
  if (details.open && list && list.getBoundingClientRect().left < 0) details.dataset["side"] = "left";
}
