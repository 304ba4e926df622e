/** A job for another family of models: keep it, or have it rewritten, with every change explained. */
import { useMutation } from "@tanstack/react-query";
import { useState } from "react";
import { Button } from "../../../components/Button";
import { Dialog } from "../../../components/Dialog";
import { ErrorCard } from "../../../components/Page";
import { Prose } from "../../../components/Prose";
import type { Imported, ModelInfo } from "../../../generated/api";
import type { Offer } from "../../../hooks/useImport";
import { call } from "../../../lib/api";
import { count } from "../../../lib/format";

interface Props {
  offer: Offer;
  models: ModelInfo[];
  onUse: (job: Imported, filename: string) => void;
  onClose: () => void;
}

export function ConvertDialog({ offer, models, onUse, onClose }: Props) {
  const { request, found, targets } = offer;
  const [arch, setArch] = useState(targets[0]!.arch);
  const convert = useMutation({ mutationFn: () => call<Imported>("POST", "/api/import", { ...request, to: arch }) });
  const label = models.find((model) => model.arch === found.arch)?.label ?? found.arch;
  const { data: converted } = convert;
  const actions = converted ? (
    <>
      <Button onClick={() => convert.reset()}>Back</Button>
      <Button look="primary" onClick={() => onUse(converted, request.filename)}>
        Use this job
      </Button>
    </>
  ) : (
    <>
      <Button onClick={() => onUse(found, request.filename)}>Keep {label}</Button>
      <Button look="primary" busy={convert.isPending} onClick={() => convert.mutate()}>
        Convert
      </Button>
    </>
  );
  return (
    <Dialog title={converted ? count(converted.changes.length, "change") : `Import ${request.filename}`} wide={converted !== undefined} onClose={onClose} actions={actions}>
      {converted ? (
        <ul className="conversion">
          {converted.changes.map((change) => (
            <Explained key={change} change={change} />
          ))}
        </ul>
      ) : (
        <>
          <p className="dialog-lead">This job trains {label}. It can be converted to train another model; every change is shown before you use it.</p>
          <label className="field">
            <span className="field-name">Convert to</span>
            <select value={arch} onChange={(event) => (setArch(event.target.value), convert.reset())}>
              {targets.map((model) => (
                <option key={model.arch} value={model.arch}>
                  {model.label}
                </option>
              ))}
            </select>
          </label>
          {convert.error && <ErrorCard error={convert.error} title="This job cannot be converted" />}
        </>
      )}
    </Dialog>
  );
}

/** The key that a change begins with stands out. */
function Explained({ change }: { change: string }) {
  const [, key, words] = /^([a-z]\w*\.[\w.[\]]+): (.*)$/s.exec(change) ?? [];
  return <li>{key === undefined ? <Prose text={change} /> : <><code>{key}</code> <Prose text={words!} /></>}</li>;
}
