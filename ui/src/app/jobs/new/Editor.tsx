/** The document with its three views, the check beside it, and what can be done with it. */
import { lazy, Suspense, useMemo, useRef, useState } from "react";
import { Button } from "../../../components/Button";
import { Page, Waiting } from "../../../components/Page";
import { TabPanel, Tabs } from "../../../components/Tabs";
import { useToast } from "../../../components/Toasts";
import { useCheck } from "../../../hooks/useCheck";
import { useDocument } from "../../../hooks/useDocument";
import { useImport } from "../../../hooks/useImport";
import { useStored } from "../../../hooks/useStored";
import { useSubmit } from "../../../hooks/useSubmit";
import type { FormSchema, ModelInfo, Problem } from "../../../generated/api";
import { applyFix, type Change } from "../../../lib/yamlDoc";
import { ChangesPanel } from "./check/ChangesPanel";
import { CheckPanel } from "./check/CheckPanel";
import { FormContext, type FormState } from "./FormContext";
import { FullForm } from "./FullForm";
import { ConvertDialog } from "./ConvertDialog";
import { ImportButton, useFileDrop } from "./ImportButton";
import { NotYaml } from "./NotYaml";
import { SimpleForm } from "./SimpleForm";

const YamlView = lazy(() => import("./yaml/YamlView").then((module) => ({ default: module.YamlView })));
const VIEWS = { simple: "Simple", full: "All settings", yaml: "YAML" };

interface Props {
  title: string;
  schema: FormSchema;
  models: ModelInfo[];
  first: string;
  id?: string;
  saved?: string;
  draft?: string | null;
}

export function Editor({ title, schema, models, first, id }: Props) {
  const document = useDocument(id, first);
  const { text, setText, job, syntax } = document;
  const [view, setView] = useStored<keyof typeof VIEWS>("job-view", "simple");
  const check = useCheck(text);
  const submit = useSubmit(id, first, document.forget);
  const toast = useToast();
  const goTo = useRef<(problem: Problem) => void>(() => {});
  const [wanted, setWanted] = useState<Problem | null>(null);
  const problems = useMemo(() => check.data?.problems ?? [], [check.data]);
  const form = useMemo<FormState>(
    () => ({ schema, models, job, text, setText, problems }),
    [schema, models, job, text, setText, problems],
  );
  const replace = (yaml: string, said: string) => {
    const before = text;
    setText(yaml);
    toast({ text: said, action: { label: "Undo", run: () => setText(before) } });
  };
  const fix = (change: Change) => setText(applyFix(text, change));
  const show = (problem: Problem) => {
    setWanted(problem);
    if (view === "yaml") goTo.current(problem);
    else if (!focusField(problem.where)) setView("yaml");
  };
  const { read, isBusy: isImporting, offer, accept, close } = useImport(models, replace);
  const drop = useFileDrop(read);
  const isBroken = syntax.length > 0;
  return (
    <Page
      title={title}
      aside={document.isChanged && <span className="hint">Unsaved changes are kept in this browser</span>}
      actions={
        <>
          <ImportButton read={read} isBusy={isImporting} />
          {document.isChanged && (
            <Button look="quiet" onClick={() => replace(first, "Changes discarded.")}>
              Discard changes
            </Button>
          )}
          <Button icon="save" busy={submit.isSaving} onClick={() => submit.save(text)}>
            {id ? "Save" : "Save as draft"}
          </Button>
          <Button
            icon="play"
            look="primary"
            busy={submit.isStarting}
            disabled={isBroken || check.data?.ok === false}
            onClick={() => submit.start(text)}
          >
            Start
          </Button>
        </>
      }
    >
      {offer && <ConvertDialog offer={offer} models={models} onUse={accept} onClose={close} />}
      <div className="editor" {...drop.handlers} onKeyDown={submit.keys(text)}>
        {drop.isOver && <p className="drop-here">Drop a job file, a LoRA or a sample image to import its settings</p>}
        <div className="editor-main">
          <Tabs label="Job views" tabs={VIEWS} value={view} onChange={setView} panel="job-views" />
          <TabPanel id="job-views" tab={view}>
            <FormContext.Provider value={form}>
              {view === "yaml" ? (
                <Suspense fallback={<Waiting what="Loading the editor" />}>
                  <YamlView goTo={goTo} wanted={wanted} />
                </Suspense>
              ) : isBroken ? (
                <NotYaml problem={syntax[0]!} onShow={() => setView("yaml")} />
              ) : view === "simple" ? (
                <SimpleForm />
              ) : (
                <FullForm />
              )}
            </FormContext.Provider>
          </TabPanel>
        </div>
        <CheckPanel check={check} refused={submit.problems} syntax={syntax} onFix={fix} onShow={show}>
          {id && <ChangesPanel id={id} form={form} onChange={replace} onShow={(path) => focusField(path) || setView("full")} />}
        </CheckPanel>
      </div>
    </Page>
  );
}

/** Put the focus on the field that a problem speaks of; false if this view does not show it. */
function focusField(where: string): boolean {
  const field = where && window.document.querySelector<HTMLElement>(`[data-path="${CSS.escape(where)}"]`);
  if (!field) return false;
  field.scrollIntoView({ block: "center" });
  field.querySelector<HTMLElement>("input, select, textarea")?.focus({ preventScroll: true });
  return true;
}
