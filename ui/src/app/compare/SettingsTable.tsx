/** The settings in which the runs differ, as each was started. */
import { useFormSchema } from "../../hooks/queries";
import type { Comparison } from "../../generated/api";
import { fieldAt } from "../../lib/form";

export function SettingsTable({ comparison: { runs, settings } }: { comparison: Comparison }) {
  const schema = useFormSchema();
  if (!settings.length)
    return (
      <section aria-label="Settings">
        <h2>Settings</h2>
        <p className="hint">{runs.some(({ problem }) => problem) ? "No other settings differ." : "These runs were started with the same settings."}</p>
      </section>
    );
  return (
    <section aria-label="Settings">
      <h2>Settings that differ</h2>
      <div className="table-wrap" tabIndex={0} role="region" aria-label="Settings that differ">
        <table className="table">
          <thead>
            <tr>
              <th scope="col">Setting</th>
              {runs.map(({ id, name }) => (
                <th key={id} scope="col">
                  {name}
                </th>
              ))}
              <th scope="col">Effect</th>
            </tr>
          </thead>
          <tbody>
            {settings.map(({ key, values, is_harmless }) => (
              <tr key={key}>
                <th scope="row">
                  {schema.data && fieldAt(schema.data, key)?.label} <code className="hint">{key}</code>
                </th>
                {values.map((value, place) => (
                  <td key={runs[place]!.id} className={value !== values[0] ? "is-other" : ""}>
                    {value ?? "–"}
                  </td>
                ))}
                <td className={is_harmless ? "hint" : ""}>{is_harmless ? "No effect on training" : "Affects training"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
