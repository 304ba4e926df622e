/** The form of a try-out, with what it will cost beside it. */
import { useMemo, useState } from "react";
import { Button } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { ProblemList } from "../../components/Problems";
import { useJobDraft } from "../../hooks/useJobDraft";
import { useSubmit } from "../../hooks/useSubmit";
import type { JobRow, LoraInfo, Problem } from "../../generated/api";
import { count } from "../../lib/format";
import { fieldOf, readForm, type TryoutForm } from "../../lib/tryout";
import { SlowHint } from "../jobs/new/check/CheckPanel";
import { Costs } from "../jobs/new/check/Costs";
import { MemoryPlan } from "../jobs/new/check/MemoryPlan";
import { LoraChoice } from "./LoraChoice";
import { TextField } from "./TextField";

interface Props {
  source: string;
  first: TryoutForm;
  loras: LoraInfo[];
  jobs: JobRow[];
}

const NUMBERS = [
  ["width", "Width", "width"],
  ["height", "Height", "height"],
  ["steps", "Steps", "sample_steps"],
  ["guidance", "Guidance", "guidance_scale"],
] as const;

export function TryoutEditor({ source, first, loras, jobs }: Props) {
  const [form, setForm] = useState(first);
  const read = useMemo(() => readForm(form, source), [form, source]);
  const { yaml, problems: found, check, isOld } = useJobDraft("/api/tryouts", read.problems.length ? null : read.request);
  const submit = useSubmit(undefined, "", () => undefined);
  const all = unique([...read.problems, ...found, ...submit.problems]);
  const at = (field: string) => all.filter((problem) => fieldOf(problem.where) === field);
  const elsewhere = all.filter((problem) => fieldOf(problem.where) === undefined);
  const change = (part: Partial<TryoutForm>) => setForm((now) => ({ ...now, ...part }));
  const errors = all.filter(({ severity }) => severity === "error").length;
  const isReady = !errors && !isOld && check.data?.ok === true && yaml !== null;
  return (
    <div className="editor tryout" onKeyDown={(event) => isReady && event.key === "Enter" && (event.ctrlKey || event.metaKey) && submit.start(yaml)}>
      <div className="editor-main form">
        <section className="form-group" aria-label="Pictures">
          <TextField label="Prompts" help="One per line. `--neg`, `--ctrl_img` and other flags work as in a job." rows={4} value={form.prompts} problems={at("prompts")} onChange={(prompts) => change({ prompts })} />
          <TextField label="Seeds" help="Each prompt is drawn with each seed." value={form.seeds} problems={at("seeds")} onChange={(seeds) => change({ seeds })} />
          <div className="tryout-numbers">
            {NUMBERS.map(([key, label, field]) => (
              <TextField key={key} label={label} value={form[key]} problems={at(field)} onChange={(value) => change({ [key]: value })} />
            ))}
          </div>
        </section>
        <section className="form-group" aria-label="LoRAs">
          <LoraChoice loras={loras} jobs={jobs} source={source} chosen={form.loras} problems={at("loras")} onChoose={(paths) => change({ loras: paths })} />
          <label className="check">
            <input type="checkbox" checked={form.hasBase} onChange={() => change({ hasBase: !form.hasBase })} /> Also without a LoRA, to compare with
          </label>
          <TextField label="Strengths" help="Each LoRA is drawn at each strength." value={form.strengths} problems={at("strengths")} onChange={(strengths) => change({ strengths })} />
        </section>
      </div>
      <aside className="check-panel" aria-label="Before it starts">
        <p className="tryout-count figure" role="status">
          <strong>{count(read.numPictures, "picture")}</strong>
          <span className="hint">{read.words}</span>
        </p>
        <TextField label="Name" value={form.name} problems={at("name")} onChange={(name) => change({ name })} />
        <Verdict isChecking={isOld || (!errors && !check.data)} errors={errors} />
        <SlowHint isFetching={check.isFetching} />
        {at("run").concat(at("arch"), elsewhere).length > 0 && <ProblemList problems={at("run").concat(at("arch"), elsewhere)} />}
        {check.data && !isOld && <Costs report={check.data} />}
        <Button look="primary" icon="play" disabled={!isReady} busy={submit.isStarting} onClick={() => yaml !== null && submit.start(yaml)}>
          Draw
        </Button>
        {check.data?.memory && !isOld && <MemoryPlan memory={check.data.memory} onFix={() => undefined} />}
      </aside>
    </div>
  );
}

function Verdict({ isChecking, errors }: { isChecking: boolean; errors: number }) {
  const [tone, icon, words] = errors
    ? ["bad", "cross", `${count(errors, "problem")} to fix`]
    : isChecking
      ? ["quiet", "spinner", "Checking"]
      : ["good", "check", "Ready to start"];
  return (
    <p className={`verdict tone-${tone}`} role="status">
      <Icon name={icon} /> <strong>{words}</strong>
    </p>
  );
}

function unique(problems: Problem[]): Problem[] {
  const seen = new Set<string>();
  return problems.filter(({ where, what }) => !seen.has(`${where} ${what}`) && seen.add(`${where} ${what}`));
}
