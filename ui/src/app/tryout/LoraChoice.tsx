/** The LoRA files of the run first, then all others under the roots; with a search. */
import { useState } from "react";
import { Icon } from "../../components/Icon";
import { ProblemList } from "../../components/Problems";
import type { JobRow, LoraInfo, Problem } from "../../generated/api";
import { ago, bytes, count } from "../../lib/format";

const MOST_ROWS = 60;

interface Props {
  loras: LoraInfo[];
  jobs: JobRow[];
  source: string;
  chosen: string[];
  problems: Problem[];
  onChoose: (paths: string[]) => void;
}

export function LoraChoice({ loras, jobs, source, chosen, problems, onChoose }: Props) {
  const [search, setSearch] = useState("");
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  const nameOf = (id: string | null) => jobs.find((job) => job.id === id)?.name;
  const isOwn = ({ job_id }: LoraInfo) => job_id !== null && source === `run=${job_id}`;
  const rank = (lora: LoraInfo) => (chosen.includes(lora.path) ? 0 : isOwn(lora) ? 1 : 2);
  const [order] = useState(() => loras.toSorted((a, b) => rank(a) - rank(b) || Number(isOwn(b)) - Number(isOwn(a)) || (b.step ?? 0) - (a.step ?? 0)));
  const found = order.filter(({ path }) => words.every((word) => path.toLowerCase().includes(word)));
  const toggle = (path: string) => onChoose(chosen.includes(path) ? chosen.filter((each) => each !== path) : [...chosen, path]);
  return (
    <fieldset className="tryout-loras">
      <legend>
        LoRAs <span className="hint figure">{count(chosen.length, "file")} chosen</span>
      </legend>
      {order.length > 6 && (
        <label className="search">
          <Icon name="search" />
          <span className="visually-hidden">Search LoRA files</span>
          <input type="search" placeholder="Search files" value={search} onChange={(event) => setSearch(event.target.value)} />
        </label>
      )}
      <ul className="compare-runs">
        {found.slice(0, MOST_ROWS).map((lora) => (
          <li key={lora.path}>
            <label className="check" title={lora.path}>
              <input type="checkbox" checked={chosen.includes(lora.path)} onChange={() => toggle(lora.path)} />
              <span className="compare-name">
                {lora.name}
                <span className="hint figure">
                  {[lora.step !== null && `step ${lora.step.toLocaleString("en")}`, nameOf(lora.job_id) && `of ${nameOf(lora.job_id)}`, lora.arch, bytes(lora.num_bytes), ago(lora.time)].filter(Boolean).join(" · ")}
                </span>
              </span>
            </label>
          </li>
        ))}
      </ul>
      {found.length > MOST_ROWS && <p className="hint">{found.length - MOST_ROWS} more. Search to find them.</p>}
      {!order.length && <p className="hint">There are no LoRA files under the root folders yet.</p>}
      {problems.length > 0 && <ProblemList problems={problems.map((problem) => ({ ...problem, where: "" }))} />}
    </fieldset>
  );
}
