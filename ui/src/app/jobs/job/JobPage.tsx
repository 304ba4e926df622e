/** One job: what it does now, and everything that it has left. */
import { lazy, Suspense } from "react";
import { useLocation } from "wouter";
import { Empty, ErrorCard, Page, Waiting } from "../../../components/Page";
import { StateBadge } from "../../../components/StateBadge";
import { TabPanel, Tabs } from "../../../components/Tabs";
import { usePrefetchedMetrics } from "../../../hooks/useMetrics";
import { useJob } from "../../../hooks/queries";
import { useKeys } from "../../../hooks/useKeys";
import type { JobDetail } from "../../../generated/api";
import { ApiError } from "../../../lib/api";
import { CAPTIONS, PICTURES } from "../../../lib/states";
import { JobActions } from "./JobActions";
import { LiveHeader } from "./LiveHeader";
import { Notes } from "./Notes";
import { OverviewTab } from "./OverviewTab";
import { SamplesTab } from "./samples/SamplesTab";
import { LogTab } from "./LogTab";
import { CheckpointsTab } from "./CheckpointsTab";
import { SettingsTab } from "./SettingsTab";

const TABS = {
  overview: "Overview",
  samples: "Samples",
  log: "Log",
  checkpoints: "Checkpoints",
  settings: "Settings",
};
type Tab = keyof typeof TABS;

const GridView = lazy(() => import("../../tryout/GridView").then((module) => ({ default: module.GridView })));
const ReviewView = lazy(() => import("../../captioning/ReviewView").then((module) => ({ default: module.ReviewView })));
/** A job that draws or captions has no curves, samples or checkpoints. */
const OTHER_TABS = new Map<string, Partial<typeof TABS>>([
  [PICTURES, { overview: "Pictures", log: TABS.log, settings: TABS.settings }],
  [CAPTIONS, { overview: "Captions", log: TABS.log, settings: TABS.settings }],
]);

export function JobPage({ id, tab }: { id: string; tab: string }) {
  const { data, error } = useJob(id);
  usePrefetchedMetrics(id, tab === "overview" && !OTHER_TABS.has(data?.kind ?? ""));
  if (error && !data)
    return (
      <Page title="Job">
        {error instanceof ApiError && error.status === 404 ? (
          <Empty title="This job no longer exists.">
            <p>Its folder was moved or deleted. If that was a mistake, look in the .trash folder.</p>
          </Empty>
        ) : (
          <ErrorCard error={error} title="Couldn’t load the job" />
        )}
      </Page>
    );
  if (!data)
    return (
      <Page title="Job">
        <Waiting what="Loading job" />
      </Page>
    );
  const tabs = OTHER_TABS.get(data.kind) ?? TABS;
  return <Job job={data} tabs={tabs} tab={tab in tabs ? (tab as Tab) : "overview"} />;
}

function Job({ job, tabs, tab }: { job: JobDetail; tabs: Partial<typeof TABS>; tab: Tab }) {
  const [, navigate] = useLocation();
  const go = (next: Tab) => {
    const path = next === "overview" ? `/jobs/${job.id}` : `/jobs/${job.id}/${next}`;
    navigate(path + window.location.search, { replace: true }); // the runs that it is compared with stay
  };
  const names = Object.keys(tabs) as Tab[];
  useKeys(Object.fromEntries(names.map((name, place) => [String(place + 1), () => go(name)])));
  return (
    <Page title={job.name} aside={<StateBadge state={job.state} />} actions={<JobActions job={job} />}>
      <LiveHeader job={job} />
      <Tabs label="Job sections" tabs={tabs as typeof TABS} value={tab} onChange={go} panel="job-panel" />
      <TabPanel id="job-panel" tab={tab}>
        {tab === "overview" && (OTHER_TABS.has(job.kind) ? <Made job={job} /> : <OverviewTab job={job} />)}
        {tab === "samples" && <SamplesTab job={job} />}
        {tab === "log" && <LogTab job={job} />}
        {tab === "checkpoints" && <CheckpointsTab job={job} />}
        {tab === "settings" && <SettingsTab job={job} />}
      </TabPanel>
    </Page>
  );
}

function Made({ job }: { job: JobDetail }) {
  return (
    <Suspense fallback={<Waiting what="Loading" />}>
      {job.kind === PICTURES ? <GridView job={job} /> : <ReviewView job={job} />}
      <Notes job={job} />
    </Suspense>
  );
}
