/** All keyboard shortcuts. */
import { Dialog } from "../components/Dialog";

const KEYS: [string, [string, string][]][] = [
  ["Everywhere", [["?", "Keyboard shortcuts"], ["n", "New job"], ["g h", "Home"], ["g j", "Jobs"], ["g d", "Datasets"], ["g s", "Settings"], ["/", "Search this page"]]],
  ["Jobs", [["j  k", "Next or previous job"], ["Enter", "Open the job"], ["x", "Select the job"], ["Alt ↑  Alt ↓", "Move a queued job up or down"]]],
  ["Job", [["1 … 5", "Overview, samples, log, checkpoints, settings"]]],
  ["Samples", [["←  →", "Previous or next step"], ["Home  End", "First or last step"], ["Enter", "Open an image"], ["s", "Star the open image"], ["0", "Fit the open image to the window"]]],
  ["Dataset", [["Ctrl Enter", "Next caption"], ["Ctrl Shift Enter", "Previous caption"]]],
  ["New job", [["Ctrl Enter", "Start"], ["Ctrl S", "Save as draft"]]],
];

export function KeysDialog({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard shortcuts" onClose={onClose}>
      <div className="keys">
        {KEYS.map(([group, rows]) => (
          <section key={group}>
            <h3>{group}</h3>
            <dl>
              {rows.map(([keys, words]) => (
                <div key={keys}>
                  <dt>{keys.split(/ {2}/).map((key) => <kbd key={key}>{key}</kbd>)}</dt>
                  <dd>{words}</dd>
                </div>
              ))}
            </dl>
          </section>
        ))}
      </div>
    </Dialog>
  );
}
