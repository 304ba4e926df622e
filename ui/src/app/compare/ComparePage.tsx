/** Two to four runs beside each other. The address holds the whole view, so that a link shows the same. */
import { useMemo, useState } from "react";
import { useSearchParams } from "wouter";
import { Button } from "../../components/Button";
import { Dialog } from "../../components/Dialog";
import { Empty, ErrorCard, Page, Waiting } from "../../components/Page";
import { RunList } from "../../components/RunList";
import { useToast } from "../../components/Toasts";
import { useComparison, useJobs } from "../../hooks/queries";
import type { JobRow } from "../../generated/api";
import { searchOf, viewOf, type CompareView } from "../../lib/compareView";
import { MOST_RUNS } from "../../lib/jobsList";
import { ComparedCurves } from "./ComparedCurves";
import { ComparedSamples } from "./ComparedSamples";
import { RunHeads } from "./RunHeads";
import { SettingsTable } from "./SettingsTable";
import "../../styles/compare.css";

export function ComparePage() {
  const [search, setSearch] = useSearchParams();
  const view = useMemo(() => viewOf(search), [search]);
  const { data, error } = useJobs();
  const [isChoosing, setChoosing] = useState(false);
  const toast = useToast();
  const change = (next: Partial<CompareView>) => setSearch(searchOf({ ...view, ...next }), { replace: true });
  const runs = (data?.jobs ?? []).filter((job) => (job.progress?.step ?? 0) > 0);
  const shown = view.runs.flatMap((id) => data?.jobs.find((job) => job.id === id) ?? []);
  const copy = () => navigator.clipboard.writeText(location.href).then(() => toast({ text: "Link copied." }));
  return (
    <Page
      title="Compare runs"
      actions={
        <>
          {shown.length > 1 && (
            <Button icon="copy" onClick={copy}>
              Copy link
            </Button>
          )}
          <Button icon="list" look={shown.length > 1 ? "plain" : "primary"} onClick={() => setChoosing(true)}>
            Choose runs…
          </Button>
        </>
      }
    >
      {!data ? (
        error ? <ErrorCard error={error} title="Couldn’t load the runs" /> : <Waiting what="Loading runs" />
      ) : shown.length < 2 ? (
        <Empty title={view.runs.length > 1 ? "These runs no longer exist." : "Nothing to compare yet."}>
          <p>Choose two to four runs here, or select them in the list of jobs.</p>
        </Empty>
      ) : (
        <Comparison key={shown.map(({ id }) => id).join()} runs={shown} gone={view.runs.length - shown.length} view={view} onChange={change} />
      )}
      {isChoosing && (
        <Dialog title="Runs to compare" onClose={() => setChoosing(false)} actions={<Button onClick={() => setChoosing(false)}>Done</Button>}>
          <div className="compare">
            <section aria-label="Runs">
              <p className="hint">Two to {MOST_RUNS}; the first one chosen is the one that the others are held against.</p>
              <RunList runs={runs} chosen={view.runs} most={MOST_RUNS} onChoose={(ids) => change({ runs: ids })} />
            </section>
          </div>
        </Dialog>
      )}
    </Page>
  );
}

interface Props {
  runs: JobRow[];
  gone: number;
  view: CompareView;
  onChange: (next: Partial<CompareView>) => void;
}

function Comparison({ runs, gone, view, onChange }: Props) {
  const comparison = useComparison(runs.map(({ id }) => id));
  return (
    <>
      {gone > 0 && <p className="hint">{gone === 1 ? "One run" : `${gone} runs`} of this link no longer exist.</p>}
      <RunHeads runs={runs} compared={comparison.data?.runs} />
      <ComparedSamples runs={runs} step={view.step} onStep={(step) => onChange({ step })} />
      <ComparedCurves runs={runs} view={view} onChange={onChange} />
      {comparison.error ? (
        <ErrorCard error={comparison.error} title="Couldn’t compare the settings" />
      ) : comparison.data ? (
        <SettingsTable comparison={comparison.data} />
      ) : (
        <Waiting what="Comparing settings" />
      )}
    </>
  );
}
