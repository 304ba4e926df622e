/** What the check says of the job: whether it can start, problems, data, memory, disk, time. */
import type { ReactNode } from "react";
import { ErrorCard } from "../../../../components/Page";
import { Icon } from "../../../../components/Icon";
import { ProblemList } from "../../../../components/Problems";
import { useFormSchema } from "../../../../hooks/queries";
import { useDelayed, type useCheck } from "../../../../hooks/useCheck";
import type { CheckReport, Problem } from "../../../../generated/api";
import { labelOf } from "../../../../lib/form";
import { count } from "../../../../lib/format";
import type { Change, SyntaxProblem } from "../../../../lib/yamlDoc";
import { DatasetTables } from "./DatasetTables";
import { MemoryPlan } from "./MemoryPlan";
import { Costs } from "./Costs";

/** A check of known files is done by then. */
const SLOW_MS = 1500;

interface Props {
  check: ReturnType<typeof useCheck>;
  /** what the server refused at the last save or start */
  refused: Problem[];
  syntax: SyntaxProblem[];
  onFix: (change: Change) => void;
  onShow: (problem: Problem) => void;
  /** what stands between the costs and the plan */
  children?: ReactNode;
}

export function CheckPanel({ check, refused, syntax, onFix, onShow, children }: Props) {
  const { data, error, isOld } = check;
  const known = new Set(data?.problems.map((problem) => problem.what));
  const schema = useFormSchema().data;
  const nameOf = (where: string) => (schema ? labelOf(schema, where) : where);
  const extra = refused.filter((problem) => !known.has(problem.what));
  return (
    <aside className="check-panel" aria-label="Check">
      <Verdict report={data} isOld={isOld} numSyntax={syntax.length} hasFailed={Boolean(error)} />
      <SlowHint isFetching={check.isFetching} />
      {error && !data && <ErrorCard error={error} />}
      {extra.length > 0 && <ProblemList problems={extra} onFix={onFix} onShow={onShow} nameOf={nameOf} />}
      {data && (
        <>
          {data.problems.length > 0 && <ProblemList problems={data.problems} onFix={onFix} onShow={onShow} nameOf={nameOf} />}
          {data.gate && (
            <p className="banner tone-warn">
              <Icon name="alert" /> {data.gate}
            </p>
          )}
          <Costs report={data} />
        </>
      )}
      {children}
      {data && (
        <>
          {data.memory && <MemoryPlan memory={data.memory} onFix={onFix} />}
          <DatasetTables datasets={data.datasets} />
          {data.lines.length > 0 && (
            <Fold title="Plan as text">
              <pre className="plan-lines">{data.lines.join("\n")}</pre>
            </Fold>
          )}
        </>
      )}
    </aside>
  );
}

interface VerdictProps {
  report: CheckReport | undefined;
  isOld: boolean;
  numSyntax: number;
  hasFailed: boolean;
}

function Verdict({ report, isOld, numSyntax, hasFailed }: VerdictProps) {
  const num = report?.problems.filter((problem) => problem.severity === "error").length ?? 0;
  const [tone, icon, words] = numSyntax
    ? ["bad", "cross", "Not valid YAML"]
    : !report
      ? hasFailed
        ? ["bad", "cross", "The check failed"]
        : ["quiet", "spinner", "Checking"]
      : report.ok
        ? ["good", "check", "Ready to start"]
        : ["bad", "cross", num ? `${count(num, "problem")} to fix` : "Can’t start yet"];
  return (
    <p className={`verdict tone-${tone}`} role="status" aria-live="polite">
      <Icon name={icon} />
      <strong>{words}</strong>
      <span className={`hint verdict-busy ${isOld ? "is-on" : ""}`} aria-hidden="true">
        Checking…
      </span>
    </p>
  );
}

/** What a check that takes long waits for. */
export function SlowHint({ isFetching }: { isFetching: boolean }) {
  const isSlow = useDelayed(isFetching, SLOW_MS) && isFetching;
  return isSlow ? (
    <p className="hint" role="status">
      Reading the model’s files. The first time for a model, this can take 15 seconds.
    </p>
  ) : null;
}

export function Fold({ title, aside, children }: { title: string; aside?: ReactNode; children: ReactNode }) {
  return (
    <details className="fold">
      <summary>
        {title} {aside && <span className="hint">{aside}</span>}
      </summary>
      {children}
    </details>
  );
}
