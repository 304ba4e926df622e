/** Where a file to import arrives: by button, drop or paste. */
import { useRef, useState, type DragEvent } from "react";
import { Button } from "../../../components/Button";

type Read = (file: File | undefined) => Promise<void>;

export function ImportButton({ read, isBusy }: { read: Read; isBusy: boolean }) {
  const input = useRef<HTMLInputElement>(null);
  return (
    <>
      <input
        ref={input}
        type="file"
        hidden
        accept=".yaml,.yml,.json,.jsonc,.safetensors,.png,.jpg,.jpeg,.webp"
        aria-label="File to import"
        onChange={(event) => {
          void read(event.target.files?.[0]);
          event.target.value = "";
        }}
      />
      <Button icon="file" look="quiet" busy={isBusy} title="Import a job file, a LoRA or a sample image. You can also drop it here." onClick={() => input.current?.click()}>
        Import…
      </Button>
    </>
  );
}

/** Handlers for the element onto which files are dropped or pasted. */
export function useFileDrop(read: Read) {
  const [isOver, setOver] = useState(false);
  const hasFile = (event: DragEvent) => event.dataTransfer.types.includes("Files");
  return {
    isOver,
    handlers: {
      onDragOver: (event: DragEvent) => {
        if (!hasFile(event)) return;
        event.preventDefault();
        setOver(true);
      },
      onDragLeave: (event: DragEvent) => !event.currentTarget.contains(event.relatedTarget as Node) && setOver(false),
      onDrop: (event: DragEvent) => {
        if (!hasFile(event)) return;
        event.preventDefault();
        setOver(false);
        void read(event.dataTransfer.files[0]);
      },
      onPaste: (event: React.ClipboardEvent) => {
        const file = event.clipboardData.files[0];
        if (!file) return;
        event.preventDefault();
        void read(file);
      },
    },
  };
}
