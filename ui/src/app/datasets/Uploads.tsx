/** Files dropped anywhere on the page, on their way, and what became of each. */
import { useEffect, useRef, useState, type DragEvent, type ReactNode } from "react";
import { Button } from "../../components/Button";
import { Progress } from "../../components/Progress";
import type { DatasetDetail } from "../../generated/api";
import { bytes, count } from "../../lib/format";
import { sendAll, summary, type Upload, type Uploads } from "../../lib/uploads";
import { sendFile, useRefresh } from "./requests";

const SHOWN = 50;
const TOLD_MS = 150;

interface UploadControl extends Uploads {
  add: (files: File[]) => void;
  cancel: () => void;
  clear: () => void;
}

/** Sends files; those that are added meanwhile go when the first are through. */
export function useUploads(dataset: DatasetDetail): UploadControl {
  const [files, setFiles] = useState<Upload[]>([]);
  const refresh = useRefresh(dataset.id);
  const queue = useRef<Promise<void>>(Promise.resolve());
  const stop = useRef(new AbortController());
  const state = summary(files);
  const isBusy = files.length > 0 && !state.isOver;
  useEffect(() => {
    // on another page of ours they go on; a closed tab would end them
    if (!isBusy) return;
    const hold = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener("beforeunload", hold);
    return () => window.removeEventListener("beforeunload", hold);
  }, [isBusy]);
  const add = (added: File[]) => {
    if (!added.length) return;
    if (stop.current.signal.aborted) stop.current = new AbortController();
    const { signal } = stop.current;
    const run = async () => {
      let latest: Upload[] = [];
      let timer: ReturnType<typeof setTimeout> | undefined;
      const show = () => ((timer = undefined), setFiles(latest));
      const tell = (now: Upload[]) => {
        latest = now;
        timer ??= setTimeout(show, TOLD_MS); // thousands of small files must not draw the page thousands of times
      };
      await sendAll(added, dataset, (file) => sendFile(dataset.id, file, signal), tell, signal);
      clearTimeout(timer);
      setFiles(latest);
      refresh();
    };
    queue.current = queue.current.then(run);
  };
  return { ...state, add, cancel: () => stop.current.abort(), clear: () => setFiles([]) };
}

/** Says what a drop would do, and takes the files; folders are left out by the browser. */
export function DropZone({ onFiles, children }: { onFiles: (files: File[]) => void; children: ReactNode }) {
  const [isOver, setOver] = useState(false);
  const hasFiles = (event: DragEvent) => event.dataTransfer.types.includes("Files");
  return (
    <div
      className="drop-zone"
      onDragOver={(event) => {
        if (!hasFiles(event)) return;
        event.preventDefault();
        setOver(true);
      }}
      onDragLeave={(event) => event.currentTarget.contains(event.relatedTarget as Node | null) || setOver(false)}
      onDrop={(event) => {
        if (!hasFiles(event)) return;
        event.preventDefault();
        setOver(false);
        onFiles([...event.dataTransfer.files]);
      }}
    >
      {children}
      {isOver && <div className="drop-hint">Drop pictures, captions or a zip file</div>}
    </div>
  );
}

export function UploadPanel({ uploads }: { uploads: UploadControl }) {
  if (!uploads.files.length) return null;
  const failed = uploads.files.filter(({ state }) => state === "failed");
  return (
    <section className="card upload-panel" aria-label="Uploads">
      <div className="row">
        <span className="figure" role="status">
          {uploads.isOver
            ? `${count(uploads.numDone, "file")} added${failed.length ? `, ${failed.length} not added` : ""}`
            : `${uploads.numDone} of ${count(uploads.files.length, "file")}, ${bytes(uploads.bytesDone)} of ${bytes(uploads.bytes)}`}
        </span>
        <span className="push" />
        {uploads.isOver ? (
          <Button icon="cross" look="quiet" onClick={uploads.clear}>
            Close
          </Button>
        ) : (
          <Button icon="stop" onClick={uploads.cancel}>
            Cancel
          </Button>
        )}
      </div>
      {!uploads.isOver && <Progress done={uploads.numDone + uploads.numFailed} total={uploads.files.length} label="Files sent" />}
      {failed.length > 0 && (
        <ul className="findings" aria-label="Files that were not added">
          {failed.slice(0, SHOWN).map(({ name, why }) => (
            <li key={name}>
              <b>{name}</b>: {why}
            </li>
          ))}
          {failed.length > SHOWN && <li>and {failed.length - SHOWN} more</li>}
        </ul>
      )}
    </section>
  );
}
