/** The same change of many captions: seen before it is made, and taken back with one button. */
import { useQuery } from "@tanstack/react-query";
import { useEffect, useState, type FormEvent } from "react";
import { Button } from "../../components/Button";
import { Dialog } from "../../components/Dialog";
import { Segmented } from "../../components/Segmented";
import { useToast } from "../../components/Toasts";
import type { BulkPreview, BulkRequest } from "../../generated/api";
import { errorText } from "../../lib/api";
import type { CaptionSaver } from "../../lib/captionSaver";
import { count } from "../../lib/format";
import { previewBulk, useBulk, useUndo, type Filter } from "./requests";

const SETTLE_MS = 250;
const ACTIONS = { replace: "Replace", prefix: "Put before", suffix: "Put after", trigger: "Trigger word" };
type Action = keyof typeof ACTIONS;

interface Props {
  id: string;
  filter: Filter;
  /** null: all that the filter shows. */
  files: string[] | null;
  saver: CaptionSaver;
  onClose: () => void;
}

export function BulkDialog({ id, filter, files, saver, onClose }: Props) {
  const [action, setAction] = useState<Action>("replace");
  const [find, setFind] = useState("");
  const [text, setText] = useState("");
  const [isRegex, setRegex] = useState(false);
  const [hasCase, setCase] = useState(false);
  const request: BulkRequest = { ...(files ? { files } : filter), action, text, find, is_regex: isRegex, has_case: hasCase };
  const isReady = action === "replace" ? find !== "" : text.trim() !== "";
  const asked = useSettled(JSON.stringify(request));
  const isCurrent = asked === JSON.stringify(request) && isReady;
  const preview = useQuery({
    queryKey: ["bulk-preview", id, asked],
    queryFn: ({ signal }) => previewBulk(id, JSON.parse(asked) as BulkRequest, signal),
    enabled: isCurrent,
    gcTime: 0,
    retry: false,
  });
  const bulk = useBulk(id);
  const undo = useUndo(id);
  const toast = useToast();
  const submit = (event: FormEvent) => {
    event.preventDefault();
    if (!preview.data || !isCurrent) return;
    bulk.mutate(
      { ...request, token: preview.data.token },
      {
        onSuccess: ({ num_changed, undo: step }) => {
          saver.forgetSaved();
          onClose();
          toast({ text: `${count(num_changed, "caption")} changed.`, action: step ? { label: "Undo", run: () => undo.mutate(step.id) } : undefined });
        },
        onError: () => void preview.refetch(),
      },
    );
  };
  const changed = (isCurrent && preview.data?.num_changed) || 0;
  return (
    <Dialog title={files ? `Edit ${count(files.length, "caption")}` : "Edit captions"} onClose={onClose} wide>
      <form className="bulk-form" onSubmit={submit}>
        <Segmented label="Change" options={ACTIONS} value={action} onChange={setAction} />
        {action === "replace" && (
          <>
            <label className="field">
              <span className="field-name">Find</span>
              <input value={find} autoFocus maxLength={2000} onChange={(event) => setFind(event.target.value)} />
            </label>
            <div className="row">
              <label className="check">
                <input type="checkbox" checked={isRegex} onChange={() => setRegex(!isRegex)} /> Regular expression
              </label>
              <label className="check">
                <input type="checkbox" checked={hasCase} onChange={() => setCase(!hasCase)} /> Match case
              </label>
            </div>
          </>
        )}
        <label className="field">
          <span className="field-name">{action === "replace" ? "Replace with" : action === "trigger" ? "Word" : "Text"}</span>
          <input value={text} maxLength={5000} aria-describedby="bulk-hint" onChange={(event) => setText(event.target.value)} />
        </label>
        <p className="hint" id="bulk-hint">
          {HINTS[action]}
        </p>
        <Preview preview={isReady ? preview.data : undefined} error={isReady ? preview.error : null} />
        <div className="row-end">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" look="primary" disabled={!changed} busy={bulk.isPending}>
            {changed ? `Change ${count(changed, "caption")}` : "Change"}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}

/** The value that has not changed for a moment: not every letter of a pattern is tried. */
function useSettled(value: string): string {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(value), SETTLE_MS);
    return () => clearTimeout(timer);
  }, [value]);
  return settled;
}

const HINTS: Record<Action, string> = {
  replace: "Leave it empty to delete what is found. With a regular expression, \\1 is its first group.",
  prefix: "Added before every caption that doesn’t begin with it. Include the space or comma.",
  suffix: "Added after every caption that doesn’t end with it. Include the space or comma.",
  trigger: "Added first, with a comma, to captions that don’t contain the word yet.",
};

function Preview({ preview, error }: { preview: BulkPreview | undefined; error: unknown }) {
  if (error)
    return (
      <p className="error-text" role="alert">
        {errorText(error)}
      </p>
    );
  if (!preview) return <p className="hint">You can preview the changes here.</p>;
  const rest = preview.num_changed - preview.changes.length;
  return (
    <section aria-label="Preview">
      <p className="hint figure" role="status">
        {count(preview.num_changed, "caption")} would change, {preview.num_same.toLocaleString("en")} would not
        {preview.num_skipped > 0 && `, ${preview.num_skipped} cannot be read or would be too long`}.
      </p>
      <ul className="bulk-preview" tabIndex={0} aria-label="Captions before and after">
        {preview.changes.map(({ file, name, before, after }) => (
          <li key={file}>
            <span className="hint">{name}</span>
            <del>{before || "no caption"}</del>
            <ins>{after || "no caption"}</ins>
          </li>
        ))}
        {rest > 0 && <li className="hint figure">and {rest.toLocaleString("en")} more</li>}
      </ul>
    </section>
  );
}
