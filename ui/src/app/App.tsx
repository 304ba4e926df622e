/** Who is signed in sees the pages; who is not is asked for the token. */
import { useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useEffect, useState } from "react";
import { Route, Switch } from "wouter";
import { Waiting } from "../components/Page";
import { LiveContext, useLiveStream } from "../hooks/useLive";
import { useNotices } from "../hooks/useNotices";
import { signIn, storedToken, tokenInFragment, whenSignedOut } from "../lib/api";
import { HomePage } from "./home/HomePage";
import { JobsPage } from "./jobs/JobsPage";
import { NotFound } from "./NotFound";
import { SettingsPage } from "./settings/SettingsPage";
import { Shell } from "./Shell";
import { SignIn } from "./SignIn";

const JobPage = lazy(() => import("./jobs/job/JobPage").then((module) => ({ default: module.JobPage })));
const ComparePage = lazy(() => import("./compare/ComparePage").then((module) => ({ default: module.ComparePage })));
const DatasetsPage = lazy(() => import("./datasets/DatasetsPage").then((module) => ({ default: module.DatasetsPage })));
const DatasetPage = lazy(() => import("./datasets/DatasetPage").then((module) => ({ default: module.DatasetPage })));
const TryoutPage = lazy(() => import("./tryout/TryoutPage").then((module) => ({ default: module.TryoutPage })));
const NewJobPage = lazy(() => import("./jobs/new/NewJobPage").then((module) => ({ default: module.NewJobPage })));

type Phase = { at: "trading" } | { at: "in" } | { at: "out"; why?: unknown };

/** The token in the address, which is taken out of it at once: it must reach no bookmark and no history. */
function takeToken(): string | null {
  const token = tokenInFragment(location.hash);
  if (token) history.replaceState(null, "", location.pathname + location.search);
  return token;
}

const arrived = takeToken();

export function App() {
  const client = useQueryClient();
  const [phase, setPhase] = useState<Phase>(() =>
    arrived ? { at: "trading" } : storedToken() ? { at: "in" } : { at: "out" },
  );
  useEffect(() => {
    whenSignedOut(() => {
      client.clear();
      setPhase({ at: "out" });
    });
    if (arrived)
      signIn(arrived).then(
        () => setPhase({ at: "in" }),
        (why: unknown) => setPhase(storedToken() ? { at: "in" } : { at: "out", why }),
      );
  }, [client]);
  // a new address pasted into an open tab changes the fragment only
  useEffect(() => {
    const changed = () => {
      const token = takeToken();
      if (token) signIn(token).then(() => setPhase({ at: "in" }), (why: unknown) => setPhase({ at: "out", why }));
    };
    window.addEventListener("hashchange", changed);
    return () => window.removeEventListener("hashchange", changed);
  }, []);
  if (phase.at === "trading") return <Waiting what="Signing in" />;
  if (phase.at === "out") return <SignIn why={phase.why} onDone={() => setPhase({ at: "in" })} />;
  return <Pages />;
}

function Pages() {
  const live = useLiveStream(useNotices());
  return (
    <LiveContext.Provider value={live}>
      <Shell>
        <Suspense fallback={<Waiting what="Loading" />}>
          <Switch>
            <Route path="/" component={HomePage} />
            <Route path="/jobs" component={JobsPage} />
            <Route path="/jobs/new">
              <NewJobPage />
            </Route>
            <Route path="/jobs/:id/edit">{({ id }) => <NewJobPage key={id} id={id} />}</Route>
            <Route path="/jobs/:id">{({ id }) => <JobPage key={id} id={id} tab="overview" />}</Route>
            <Route path="/jobs/:id/:tab">{({ id, tab }) => <JobPage key={id} id={id} tab={tab} />}</Route>
            <Route path="/compare" component={ComparePage} />
            <Route path="/datasets" component={DatasetsPage} />
            <Route path="/datasets/:id">{({ id }) => <DatasetPage key={id} id={id} />}</Route>
            <Route path="/tryout" component={TryoutPage} />
            <Route path="/settings" component={SettingsPage} />
            <Route component={NotFound} />
          </Switch>
        </Suspense>
      </Shell>
    </LiveContext.Provider>
  );
}
