/** The frame of a page: title, actions, and what stands in place of the contents while they are missing. */
import { useEffect, type ReactNode } from "react";
import { ApiError, errorText } from "../lib/api";
import { setTabPage } from "../lib/tab";
import { Icon } from "./Icon";
import { ProblemList } from "./Problems";

interface Props {
  title: string;
  /** What stands beside the title. */
  aside?: ReactNode;
  actions?: ReactNode;
  children: ReactNode;
}

export function Page({ title, aside, actions, children }: Props) {
  useEffect(() => {
    setTabPage(title);
  }, [title]);
  return (
    <>
      <header className="page-head">
        <div className="page-title">
          <h1>{title}</h1>
          {aside}
        </div>
        {actions && <div className="row">{actions}</div>}
      </header>
      {children}
    </>
  );
}

export function Empty({ title, children }: { title: string; children?: ReactNode }) {
  return (
    <div className="empty">
      <p className="empty-title">{title}</p>
      {children}
    </div>
  );
}

export function Waiting({ what }: { what: string }) {
  return (
    <p className="waiting" role="status">
      <Icon name="spinner" /> {what}
    </p>
  );
}

export function ErrorCard({ error, title }: { error: unknown; title?: string }) {
  const problems = error instanceof ApiError ? error.problems : [];
  return (
    <div className="card card-bad" role="alert">
      {title && <h2>{title}</h2>}
      {problems.length ? <ProblemList problems={problems} /> : <p>{errorText(error)}</p>}
    </div>
  );
}
