/** A slider whose stops are the steps at which samples were drawn. */
interface Props {
  steps: readonly number[];
  value: number;
  onChange: (step: number) => void;
  label?: string;
}

export function StepSlider({ steps, value, onChange, label = "Step" }: Props) {
  const place = steps.indexOf(value);
  return (
    <label className="step-slider">
      {label}
      <input
        type="range"
        min={0}
        max={steps.length - 1}
        step={1}
        value={place}
        aria-valuetext={`step ${value}`}
        onChange={(event) => onChange(steps[Number(event.target.value)]!)}
      />
      <output className="figure">{value.toLocaleString("en")}</output>
    </label>
  );
}
