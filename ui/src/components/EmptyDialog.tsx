/** Deletes for good: asks, because nothing brings it back. */
import { Button } from "./Button";
import { Dialog } from "./Dialog";

interface Props {
  title: string;
  words: string;
  busy: boolean;
  onEmpty: () => void;
  onClose: () => void;
}

export function EmptyDialog({ title, words, busy, onEmpty, onClose }: Props) {
  return (
    <Dialog
      title={title}
      onClose={onClose}
      actions={
        <>
          <Button onClick={onClose}>Keep</Button>
          <Button look="danger" icon="trash" busy={busy} onClick={onEmpty}>
            Delete for good
          </Button>
        </>
      }
    >
      <p>{words}</p>
    </Dialog>
  );
}
