/** Short messages at the edge of the page, read out by screen readers; one may be undone for a while. */
import { createContext, useCallback, useContext, useMemo, useState, type ReactNode } from "react";
import { Button } from "./Button";

export interface Toast {
  text: string;
  tone?: "plain" | "bad";
  action?: { label: string; run: () => void };
}

const Context = createContext<(toast: Toast) => void>(() => {});

export const useToast = () => useContext(Context);

export function Toasts({ children }: { children: ReactNode }) {
  const [toasts, setToasts] = useState<(Toast & { id: number })[]>([]);
  const remove = useCallback((id: number) => setToasts((now) => now.filter((toast) => toast.id !== id)), []);
  const show = useCallback(
    (toast: Toast) => {
      const id = performance.now();
      setToasts((now) => [...now.slice(-3), { ...toast, id }]);
      setTimeout(() => remove(id), toast.action || toast.tone === "bad" ? 10_000 : 5_000);
    },
    [remove],
  );
  const value = useMemo(() => show, [show]);
  return (
    <Context.Provider value={value}>
      {children}
      <div className="toasts" role="status" aria-live="polite">
        {toasts.map((toast) => (
          <div key={toast.id} className={`toast ${toast.tone === "bad" ? "toast-bad" : ""}`}>
            <span>{toast.text}</span>
            {toast.action && (
              <Button
                look="quiet"
                onClick={() => {
                  toast.action!.run();
                  remove(toast.id);
                }}
              >
                {toast.action.label}
              </Button>
            )}
            <Button icon="cross" look="quiet" label="Dismiss" onClick={() => remove(toast.id)} />
          </div>
        ))}
      </div>
    </Context.Provider>
  );
}
