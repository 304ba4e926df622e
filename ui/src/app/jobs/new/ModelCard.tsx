/** What a model's card says: what it is good for, licence, gate, size, notes. */
import { Icon } from "../../../components/Icon";
import { Prose } from "../../../components/Prose";
import type { ModelInfo } from "../../../generated/api";

export function ModelCard({ model }: { model: ModelInfo }) {
  const billions = model.num_parameters / 1e9;
  return (
    <div className="model-card">
      <p>
        <Prose text={model.summary} />
      </p>
      <p className="row hint">
        {model.num_parameters > 0 && (
          <span className="figure">{billions >= 1 ? `${billions.toFixed(1)} B` : `${(1000 * billions).toFixed(1)} M`} parameters</span>
        )}
        <span>{model.licence}</span>
      </p>
      {model.is_gated && (
        <p className="row tone-warn">
          <Icon name="alert" /> Accept its licence on Hugging Face first, then add your token in Settings.
        </p>
      )}
      {model.notes.map((note) => (
        <p key={note} className="hint">
          <Prose text={note} />
        </p>
      ))}
      {model.variants.length > 0 && (
        <details className="fold">
          <summary>Other versions of this model</summary>
          <dl className="facts">
            {model.variants.map((variant) => (
              <div key={variant.label}>
                <dt>{variant.label}</dt>
                <dd>{variant.advice}</dd>
              </div>
            ))}
          </dl>
        </details>
      )}
    </div>
  );
}
