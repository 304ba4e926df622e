/** Settings out of a file: a job of ours or of ai-toolkit, a LoRA, a sample picture. By button, drop or paste. */
import { useRef, useState, type DragEvent } from "react";
import { Button } from "../../../components/Button";
import { useToast } from "../../../components/Toasts";
import type { Imported, ImportRequest } from "../../../generated/api";
import { call, errorText } from "../../../lib/api";
import { bytes } from "../../../lib/format";

const TEXT_FILES = /\.(ya?ml|json|jsonc|txt|toml)$/i;
const LARGEST = 28 * 1024 ** 2;
/** a LoRA's settings stand in its head */
const HEAD_ONLY = /\.safetensors$/i;
const HEAD_BYTES = 8 * 1024 ** 2;

type OnImport = (yaml: string, said: string) => void;

async function requestOf(file: File): Promise<ImportRequest> {
  if (TEXT_FILES.test(file.name)) return { filename: file.name, text: await file.text() };
  if (file.size > LARGEST && !HEAD_ONLY.test(file.name))
    throw new Error(`${file.name} is ${bytes(file.size)}, which is too large to import. The limit is ${bytes(LARGEST)}.`);
  const part = HEAD_ONLY.test(file.name) ? file.slice(0, HEAD_BYTES) : file;
  return { filename: file.name, base64: await base64Of(part) };
}

function base64Of(blob: Blob): Promise<string> {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(String(reader.result).replace(/^[^,]*,/, "")));
    reader.addEventListener("error", () => reject(reader.error));
    reader.readAsDataURL(blob);
  });
}

function useImport(onImport: OnImport) {
  const toast = useToast();
  const [isBusy, setBusy] = useState(false);
  const read = async (file: File | undefined) => {
    if (!file) return;
    setBusy(true);
    try {
      const { yaml, source, changes } = await call<Imported>("POST", "/api/import", await requestOf(file));
      onImport(yaml, `Imported ${file.name} (${source}).${changes.length ? ` Changed: ${changes.join("; ")}` : ""}`);
    } catch (error) {
      toast({ text: errorText(error), tone: "bad" });
    } finally {
      setBusy(false);
    }
  };
  return { read, isBusy };
}

export function ImportButton({ onImport }: { onImport: OnImport }) {
  const input = useRef<HTMLInputElement>(null);
  const { read, isBusy } = useImport(onImport);
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
export function useFileDrop(onImport: OnImport) {
  const { read } = useImport(onImport);
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
