/** A job that captions a dataset by a model: a few fields, checked as one types, and put into the queue. */
import { useState, type FormEvent } from "react";
import { Button } from "../../components/Button";
import { Dialog } from "../../components/Dialog";
import { ProblemList } from "../../components/Problems";
import { Segmented } from "../../components/Segmented";
import type { DatasetDetail } from "../../generated/api";
import { useJobDraft } from "../../hooks/useJobDraft";
import { useStored } from "../../hooks/useStored";
import { useSubmit } from "../../hooks/useSubmit";
import { fieldOf, requestOf, type CaptionForm } from "../../lib/captionJob";
import { count } from "../../lib/format";
import { TextField } from "../tryout/TextField";
import "./captioning.css";

interface Props {
  dataset: DatasetDetail;
  trigger?: string;
  onClose: () => void;
}

export function CaptionDialog({ dataset, trigger, onClose }: Props) {
  const missing = dataset.num_pictures - dataset.num_captioned;
  const [model, setModel] = useStored<string>("caption-model", "");
  const [instruction, setInstruction] = useStored<string>("caption-instruction", "");
  const [prefix, setPrefix] = useState(trigger ? `${trigger}, ` : "");
  const [pictures, setPictures] = useState<CaptionForm["pictures"]>(missing ? "missing" : "all");
  const request = requestOf(dataset.id, { model, instruction, prefix, pictures });
  const { yaml, check, problems: found, isOld } = useJobDraft("/api/captioning", request);
  const submit = useSubmit(undefined, "", onClose);
  const all = request ? [...found, ...submit.problems] : [];
  const at = (field: keyof CaptionForm) => all.filter(({ where }) => fieldOf(where) === field);
  const elsewhere = all.filter(({ where }) => fieldOf(where) === undefined);
  const isReady = request !== null && !isOld && check.data?.ok === true && yaml !== null;
  const start = (event: FormEvent) => {
    event.preventDefault();
    if (isReady) submit.start(yaml);
  };
  return (
    <Dialog title="Caption with a model" onClose={onClose} wide>
      <form className="caption-form" onSubmit={start}>
        <TextField label="Model" help="Folder of a model that describes pictures, as transformers stores it (Qwen3-VL, SmolVLM, LLaVA, BLIP, …), or its id on the hub." value={model} problems={at("model")} onChange={setModel} />
        <Segmented label="Pictures" options={{ missing: `Without a caption: ${missing}`, all: `All ${dataset.num_pictures}` }} value={pictures} onChange={setPictures} />
        {at("pictures").length > 0 && <ProblemList problems={at("pictures").map((problem) => ({ ...problem, where: "" }))} />}
        <TextField label="Instruction" help="Instruction for the model. If empty, it is asked for a plain description in one or two sentences." rows={3} value={instruction} problems={at("instruction")} onChange={setInstruction} />
        <TextField label="Put before each caption" help="Such as a trigger word. Include the space or comma." value={prefix} problems={at("prefix")} onChange={setPrefix} />
        {elsewhere.length > 0 && <ProblemList problems={elsewhere} />}
        <p className="hint" role="status">
          {!request ? "Enter a model." : isOld ? "Checking…" : isReady ? `Ready. ${count(pictures === "all" ? dataset.num_pictures : missing, "picture")} at most; no caption is written until you accept it.` : ""}
        </p>
        <div className="row-end">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" look="primary" icon="play" disabled={!isReady} busy={submit.isStarting}>
            Add to the queue
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
