/** What can be done with the job now, as the server says. */
import { useState } from "react";
import { Link } from "wouter";
import { Button } from "../../../components/Button";
import { Icon } from "../../../components/Icon";
import { Menu } from "../../../components/Menu";
import { useToast } from "../../../components/Toasts";
import { useAction } from "../../../hooks/useActions";
import type { JobDetail } from "../../../generated/api";
import { isLive, stopLabel, type Action } from "../../../lib/states";
import { CloneDialog } from "./CloneDialog";
import { DeleteItem } from "./DeleteItem";
import { KillDialog } from "./KillDialog";
import { ResumeDialog } from "./ResumeDialog";

export function JobActions({ job }: { job: JobDetail }) {
  const act = useAction();
  const toast = useToast();
  const [dialog, setDialog] = useState<"clone" | "resume" | "kill" | null>(null);
  const can = (action: Action) => job.controls.actions.includes(action);
  const isBusy = (action: Action) => act.isPending && act.variables?.action === action;
  const run = (action: Action, said?: string) =>
    act.mutate({ id: job.id, action }, { onSuccess: () => said && toast({ text: said }) });
  const close = () => setDialog(null);
  return (
    <>
      {can("save") && (
        <Button icon="save" busy={isBusy("save")} onClick={() => run("save", "A checkpoint will be saved after this step.")}>
          Save now
        </Button>
      )}
      {can("sample") && (
        <Button icon="picture" busy={isBusy("sample")} onClick={() => run("sample", "Samples will be generated after this step.")}>
          Sample now
        </Button>
      )}
      {can("pause") && (
        <Button icon="pause" busy={isBusy("pause")} title="Save, free the GPU and keep the place in the queue" onClick={() => run("pause")}>
          Pause
        </Button>
      )}
      {can("stop") && (
        <Button icon="stop" busy={isBusy("stop")} onClick={() => run("stop")}>
          {stopLabel(job)}
        </Button>
      )}
      {can("resume") && (
        <Button icon="play" look="primary" onClick={() => setDialog("resume")}>
          Resume…
        </Button>
      )}
      {can("start") && !can("resume") && (
        <Button icon="play" look="primary" busy={isBusy("start")} onClick={() => run("start")}>
          Start
        </Button>
      )}
      <Menu label="More">
        {!isLive(job.state) && (
          <Link href={`/jobs/${job.id}/edit`}>
            <Icon name="pencil" /> Edit
          </Link>
        )}
        {job.runs.length > 0 && (
          <a href={`/files/jobs/${job.id}/report`} target="_blank" rel="noreferrer">
            <Icon name="chart" /> Report
          </a>
        )}
        {can("clone") && (
          <button type="button" onClick={() => setDialog("clone")}>
            <Icon name="copy" /> Clone…
          </button>
        )}
        {can("kill") && (
          <button type="button" onClick={() => setDialog("kill")}>
            <Icon name="bolt" /> Force stop…
          </button>
        )}
        {!isLive(job.state) && job.state !== "elsewhere" && <DeleteItem job={job} />}
      </Menu>
      {dialog === "clone" && <CloneDialog job={job} onClose={close} />}
      {dialog === "resume" && <ResumeDialog job={job} onClose={close} />}
      {dialog === "kill" && <KillDialog job={job} onClose={close} />}
    </>
  );
}
