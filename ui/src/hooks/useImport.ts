/** Settings out of a file: a job of ours or of ai-toolkit, a LoRA, a sample picture. */
import { useState } from "react";
import { useToast } from "../components/Toasts";
import type { Imported, ImportRequest, ModelInfo } from "../generated/api";
import { call, errorText } from "../lib/api";
import { targetsOf } from "../lib/draft";
import { bytes } from "../lib/format";
import { useSettings } from "./queries";

const TEXT_FILES = /\.(ya?ml|json|jsonc|txt|toml)$/i;
const LARGEST = 28 * 1024 ** 2;
/** a LoRA's settings stand in its head */
const HEAD_ONLY = /\.safetensors$/i;
const HEAD_BYTES = 8 * 1024 ** 2;

export type OnImport = (yaml: string, said: string) => void;

/** A job of another family of models, which can be rewritten for these. */
export interface Offer {
  request: ImportRequest;
  found: Imported;
  targets: ModelInfo[];
}

async function requestOf(file: File): Promise<ImportRequest> {
  if (TEXT_FILES.test(file.name)) return { filename: file.name, text: await file.text() };
  if (file.size > LARGEST && !HEAD_ONLY.test(file.name))
    throw new Error(`it is ${bytes(file.size)}, which is too large to import. The limit is ${bytes(LARGEST)}.`);
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

export function useImport(models: ModelInfo[], onImport: OnImport) {
  const toast = useToast();
  const usual = useSettings().data?.default_arch;
  const [isBusy, setBusy] = useState(false);
  const [offer, setOffer] = useState<Offer | null>(null);
  const accept = ({ yaml, source, changes }: Imported, filename: string) => {
    setOffer(null);
    const isShown = offer !== null; // the changes stood in a dialog
    onImport(yaml, `Imported ${filename} (${source}).${changes.length && !isShown ? ` Changed: ${changes.join("; ")}` : ""}`);
  };
  const read = async (file: File | undefined) => {
    if (!file) return;
    setBusy(true);
    try {
      const request = await requestOf(file);
      const found = await call<Imported>("POST", "/api/import", request);
      const targets = request.text === undefined ? [] : targetsOf(models, found.arch, usual);
      if (targets.length) setOffer({ request, found, targets });
      else accept(found, file.name);
    } catch (error) {
      toast({ text: `${file.name}: ${errorText(error)}`, tone: "bad" });
    } finally {
      setBusy(false);
    }
  };
  return { read, isBusy, offer, accept, close: () => setOffer(null) };
}
