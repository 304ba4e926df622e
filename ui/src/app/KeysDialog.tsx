/** All keyboard shortcuts. */
import { Dialog } from "../components/Dialog";

const KEYS: [string, [string, string][]][] = [
  ["Everywhere", [["?", "This list"], ["n", "New job"], ["g h", "Home"], ["g j", "Jobs"], ["g s", "Settings"], ["/", "Search on the page"]]],
  ["Jobs", [["j  k", "Next, previous job"], ["Enter", "Open the job"], ["x", "Select the job"], ["Alt ↑  Alt ↓", "Move a waiting job in the queue"]]],
  ["Job", [["1 … 5", "Overview, samples, log, checkpoints, settings"]]],
  ["Samples", [["←  →", "Step before, step after"], ["Home  End", "First step, last step"], ["Enter", "Open a picture large"], ["s", "Star the large picture"], ["0", "Large picture: fit"]]],
  ["New job", [["Ctrl Enter", "Start"], ["Ctrl S", "Save as a draft"]]],
];

export function KeysDialog({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keys" onClose={onClose}>
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
