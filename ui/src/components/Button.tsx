/** A button: an action. `busy` keeps its width and says so to screen readers. */
import type { ButtonHTMLAttributes, ReactNode } from "react";
import { Icon } from "./Icon";

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  icon?: string;
  look?: "plain" | "primary" | "quiet" | "danger";
  busy?: boolean;
  /** For a button that shows its icon only. */
  label?: string;
  children?: ReactNode;
}

export function Button({ icon, look = "plain", busy = false, label, children, className = "", ...rest }: Props) {
  return (
    <button
      type="button"
      aria-label={label}
      title={label}
      aria-busy={busy || undefined}
      disabled={busy || rest.disabled}
      {...rest}
      className={`button button-${look} ${children == null ? "button-icon" : ""} ${className}`}
    >
      {icon && <Icon name={busy ? "spinner" : icon} />}
      {children != null && <span>{children}</span>}
    </button>
  );
}
