/** The memory of each phase as a bar against the card, and the cheapest ways to make it fit. */
import { Button } from "../../../../components/Button";
import { Icon } from "../../../../components/Icon";
import { Legend, StackedBar, type Part } from "../../../../components/StackedBar";
import { useFormSchema } from "../../../../hooks/queries";
import type { FormSchema, MemoryReport, Phase, Way } from "../../../../generated/api";
import { bytes } from "../../../../lib/format";
import { labelOf, shownValue } from "../../../../lib/form";
import type { Change } from "../../../../lib/yamlDoc";

interface Props {
  memory: MemoryReport;
  onFix: (change: Change) => void;
}

export function MemoryPlan({ memory, onFix }: Props) {
  const schema = useFormSchema().data;
  const hasCard = memory.gpu_bytes != null;
  const limit = hasCard ? memory.gpu_bytes : memory.ram_bytes;
  const names = [...new Set(memory.phases.flatMap((phase) => Object.keys(phase.parts)))];
  const fullest = memory.phases.reduce<Phase | undefined>(
    (most, phase) => (most && amount(most, hasCard) >= amount(phase, hasCard) ? most : phase),
    undefined,
  );
  return (
    <section aria-label="Memory" className="memory-plan">
      <h2>
        Memory{" "}
        <span className={`state tone-${memory.fits ? "good" : "bad"}`}>
          <Icon name={memory.fits ? "check" : "cross"} />
          {memory.fits ? "Fits" : "Doesn’t fit"}
        </span>
      </h2>
      <p className="hint figure">
        {hasCard
          ? `Peak ${bytes(memory.peak_gpu_bytes)} of ${bytes(memory.gpu_bytes)} on ${memory.card}${memory.free_gpu_bytes != null ? `, ${bytes(memory.free_gpu_bytes)} free now` : ""}; RAM ${bytes(memory.peak_ram_bytes)}`
          : `Peak ${bytes(memory.peak_ram_bytes)} of ${bytes(memory.ram_bytes)} RAM (${memory.card || memory.device})`}
      </p>
      <ul className="phases">
        {memory.phases.map((phase) => (
          <li key={`${phase.stage}/${phase.name}`}>
            <span className="phase-name">
              {phase.name}
              <span className="figure">{bytes(amount(phase, hasCard))}</span>
            </span>
            <StackedBar label={phase.name} parts={partsOf(phase, names, hasCard)} limit={limit} limitName={hasCard ? memory.card : "RAM"} />
          </li>
        ))}
      </ul>
      {fullest && <Legend parts={partsOf(fullest, names, hasCard).filter((part) => part.value > 0)} />}
      {memory.ways.length > 0 && (
        <div className="ways">
          <h3>{memory.fits ? "Ways to use less memory" : "Ways to make it fit"}</h3>
          {memory.ways.map((way, place) => (
            <Button key={place} icon="check" onClick={() => onFix({ edits: way.settings })}>
              {waySentence(way, hasCard, schema)}
            </Button>
          ))}
        </div>
      )}
    </section>
  );
}

function amount(phase: Phase, hasCard: boolean): number {
  return hasCard ? phase.gpu_bytes : phase.ram_bytes;
}

/** Parts in the same order in each phase, so that a colour means the same everywhere; what no part names is the rest. */
function partsOf(phase: Phase, names: string[], hasCard: boolean): Part[] {
  const parts = names.map((name, place) => ({ name, value: phase.parts[name] ?? 0, series: place % 10 }));
  const rest = amount(phase, hasCard) - parts.reduce((sum, part) => sum + part.value, 0);
  return rest > 0 ? [...parts, { name: names.length ? "other" : "total", value: rest, series: "rest" }] : parts;
}

function waySentence(way: Way, hasCard: boolean, schema: FormSchema | undefined): string {
  const settings = Object.entries(way.settings)
    .map(([key, value]) => `${schema ? labelOf(schema, key) : key}: ${typeof value === "boolean" ? (value ? "on" : "off") : shownValue(value)}`)
    .join(", ");
  return `${settings} (peak ${bytes(hasCard ? way.peak_gpu_bytes : way.peak_ram_bytes)})`;
}
