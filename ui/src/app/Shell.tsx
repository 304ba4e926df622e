/** What surrounds every page: navigation, the state of the connection, the list of keys. */
import { useEffect, useRef, useState, type ReactNode } from "react";
import { Link, useLocation } from "wouter";
import { Icon } from "../components/Icon";
import { useKeys } from "../hooks/useKeys";
import { useLiveState } from "../hooks/useLive";
import { useJobs } from "../hooks/queries";
import { countGroups } from "../lib/jobsList";
import { KeysDialog } from "./KeysDialog";

const PAGES = [
  { href: "/", name: "Home", icon: "home" },
  { href: "/jobs", name: "Jobs", icon: "list" },
  { href: "/jobs/new", name: "New job", icon: "plus" },
  { href: "/datasets", name: "Datasets", icon: "picture" },
  { href: "/tryout", name: "Try out", icon: "table" },
  { href: "/settings", name: "Settings", icon: "gear" },
];

export function Shell({ children }: { children: ReactNode }) {
  const [location, navigate] = useLocation();
  const [showsKeys, setShowsKeys] = useState(false);
  const main = useRef<HTMLElement>(null);
  useKeys({
    "?": () => setShowsKeys(true),
    "g h": () => navigate("/"),
    "g j": () => navigate("/jobs"),
    "g d": () => navigate("/datasets"),
    "g s": () => navigate("/settings"),
    n: () => navigate("/jobs/new"),
    "/": () => document.querySelector<HTMLInputElement>("input[type=search]")?.focus(),
  });
  const page = location.split("/").slice(0, 3).join("/");
  const isFirst = useRef(true);
  useEffect(() => {
    // a new page begins at its top, for eyes and for screen readers; the first one is where the browser put it
    if (!isFirst.current) main.current?.focus({ preventScroll: true });
    isFirst.current = false;
    window.scrollTo(0, 0);
  }, [page]);
  return (
    <div className="shell">
      <a className="skip" href="#main">
        Skip to content
      </a>
      <nav className="nav" aria-label="Pages">
        <Link href="/" className="brand">
          <img src="/favicon.svg" alt="" width="22" height="22" />
          <span>Trainer</span>
        </Link>
        {PAGES.map(({ href, name, icon }) => (
          <NavLink key={href} href={href} name={name} icon={icon} location={location} />
        ))}
        <span className="nav-rest" />
        <button type="button" className="nav-link nav-keys" onClick={() => setShowsKeys(true)}>
          <kbd>?</kbd>
          <span>Shortcuts</span>
        </button>
      </nav>
      <main id="main" ref={main} tabIndex={-1}>
        <Connection />
        {children}
      </main>
      {showsKeys && <KeysDialog onClose={() => setShowsKeys(false)} />}
    </div>
  );
}

function NavLink({ href, name, icon, location }: { href: string; name: string; icon: string; location: string }) {
  const isHere = href === location || (href === "/jobs" && /^\/jobs\/(?!new$)/.test(location)) || (href === "/datasets" && location.startsWith("/datasets/"));
  return (
    <Link href={href} className="nav-link" aria-current={isHere ? "page" : undefined}>
      <Icon name={icon} />
      <span>{name}</span>
      {href === "/jobs" && <LiveCount />}
    </Link>
  );
}

/** How many run and how many need someone, beside the word. */
function LiveCount() {
  const { data } = useJobs();
  if (!data) return null;
  const { live, attention } = countGroups(data.jobs);
  return (
    <span className="nav-counts">
      {live > 0 && <span className="pill tone-live" title={`${live} running`}>{live}<span className="visually-hidden"> running</span></span>}
      {attention > 0 && <span className="pill tone-bad" title={`${attention} need attention`}>{attention}<span className="visually-hidden"> need attention</span></span>}
    </span>
  );
}

function Connection() {
  const state = useLiveState();
  // a stream that is opened again after a moment is nothing to tell anyone
  const [isLost, setLost] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLost(state === "lost" || state === "connecting"), state === "live" ? 0 : 2500);
    return () => clearTimeout(timer);
  }, [state]);
  return (
    <div role="status" aria-live="polite">
      {isLost && state !== "live" && (
        <p className="banner tone-warn">
          <Icon name="alert" /> The server isn’t responding, so the figures below may be out of date. Running jobs keep going.
          Reconnecting… If you stopped the server, start it again with <code>python run.py ui</code>.
        </p>
      )}
    </div>
  );
}
