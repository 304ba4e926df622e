/** Copies a LoRA file under a name of one's choice, and says where it is. */
import { useState } from "react";
import { Button } from "../../components/Button";
import { Dialog } from "../../components/Dialog";
import { useToast } from "../../components/Toasts";
import { useKeep } from "../../hooks/useActions";
import { ApiError, errorText } from "../../lib/api";
import { bytes } from "../../lib/format";
import type { Problem } from "../../generated/api";
import { TextField } from "./TextField";

interface Props {
  path: string;
  first: string;
  hint?: string;
  onClose: () => void;
}

export function KeepDialog({ path, first, hint, onClose }: Props) {
  const [name, setName] = useState(first);
  const keep = useKeep();
  const toast = useToast();
  const copy = (text: string) => navigator.clipboard.writeText(text).then(() => toast({ text: "Path copied." }));
  if (keep.data)
    return (
      <Dialog
        title="Kept"
        onClose={onClose}
        actions={
          <>
            <Button icon="copy" onClick={() => copy(keep.data.path)}>
              Copy path
            </Button>
            <Button look="primary" onClick={onClose}>
              Done
            </Button>
          </>
        }
      >
        <p role="status">A copy of {bytes(keep.data.num_bytes)} is here:</p>
        <code className="path">{keep.data.path}</code>
        <p className="hint">For ComfyUI, copy it to models/loras.</p>
      </Dialog>
    );
  return (
    <Dialog
      title="Keep this one"
      onClose={onClose}
      actions={
        <>
          <Button onClick={onClose}>Cancel</Button>
          <Button look="primary" icon="save" busy={keep.isPending} onClick={() => keep.mutate({ path, name })}>
            Keep
          </Button>
        </>
      }
    >
      <p>
        The file is copied; the checkpoint stays where it is. {hint}
      </p>
      <code className="path">{path}</code>
      <TextField label="Name" value={name} problems={problemsOf(keep.error)} onChange={setName} />
    </Dialog>
  );
}

function problemsOf(error: unknown): Problem[] {
  if (!error) return [];
  return error instanceof ApiError && error.problems.length ? error.problems : [{ severity: "error", where: "", what: errorText(error) } as Problem];
}
