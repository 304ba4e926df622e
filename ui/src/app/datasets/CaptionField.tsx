/** One caption: saved by itself a moment after it was typed; two texts to choose from if somebody else was quicker. */
import { useId, useSyncExternalStore } from "react";
import { Button } from "../../components/Button";
import type { PictureRow } from "../../generated/api";
import type { CaptionSaver, Draft } from "../../lib/captionSaver";

const WORDS: Record<Draft["state"], string> = { waiting: "Not saved yet", saving: "Saving…", saved: "Saved", conflict: "", failed: "Not saved" };

export function CaptionField({ picture, saver }: { picture: PictureRow; saver: CaptionSaver }) {
  const draft = useSyncExternalStore(saver.subscribe, () => saver.draft(picture.file));
  const id = useId();
  // what is saved may have been changed since, by an edit of many captions
  const text = draft && draft.state !== "saved" ? draft.text : picture.text;
  if (draft?.state === "conflict")
    return (
      <div className="caption-conflict" role="alert">
        <p>
          <strong>Changed elsewhere in the meantime.</strong> Theirs: <q>{draft.theirs?.theirs || "no caption"}</q>
        </p>
        <p>
          Yours: <q>{draft.text || "no caption"}</q>
        </p>
        <span className="row">
          <Button onClick={() => void saver.settle(picture.file, "mine")}>Keep mine</Button>
          <Button onClick={() => void saver.settle(picture.file, "theirs")}>Take theirs</Button>
        </span>
      </div>
    );
  return (
    <>
      <textarea
        className="caption"
        aria-label={`Caption of ${picture.name}`}
        aria-describedby={id}
        aria-invalid={draft?.state === "failed" || undefined}
        placeholder={picture.trouble || "No caption"}
        value={text}
        spellCheck
        onChange={(event) => saver.edit(picture.file, picture.tag, event.target.value)}
        onBlur={() => void saver.flush(picture.file)}
      />
      <span id={id} className={`caption-state ${draft?.state === "failed" ? "error-text" : "hint"}`}>
        {picture.trouble || (picture.is_listed && !draft ? "From metadata.jsonl" : "")}
        {draft && `${WORDS[draft.state]}${draft.why ? `: ${draft.why}` : ""}`}
        {draft?.state === "failed" && (
          <button type="button" className="link" onClick={() => void saver.flush(picture.file)}>
            Try again
          </button>
        )}
      </span>
    </>
  );
}
