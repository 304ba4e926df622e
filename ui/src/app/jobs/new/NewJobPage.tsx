/** A job being written: three views of one document, checked as it changes. */
import { useState } from "react";
import { useSearchParams } from "wouter";
import { ErrorCard, Page, Waiting } from "../../../components/Page";
import { useFormSchema, useJob, useModels, useSettings } from "../../../hooks/queries";
import type { FormSchema, ModelInfo } from "../../../generated/api";
import { loadDraft, newJob, storeDraft, withGiven, type Given } from "../../../lib/draft";
import { Editor } from "./Editor";

/** @param id of the job to edit; undefined: a new one. */
export function NewJobPage({ id }: { id?: string }) {
  return id ? <EditJob id={id} /> : <WithForm title="New job">{(form) => <NewJob {...form} />}</WithForm>;
}

function NewJob({ schema, models }: { schema: FormSchema; models: ModelInfo[] }) {
  const settings = useSettings();
  const given = useGiven();
  if (settings.error) return <ErrorPage title="New job" error={settings.error} />;
  if (!settings.data) return <WaitingPage title="New job" />;
  const { default_arch: arch, training_folder: folder } = settings.data;
  const model = models.find((each) => each.arch === arch) ?? models[0];
  return <Editor title="New job" schema={schema} models={models} first={withGiven(newJob(schema, model, folder), given)} />;
}

/** What a link to this page wants in the new job; a job that is being written gets it too. */
function useGiven(): Given {
  const [query] = useSearchParams();
  const [given] = useState<Given>(() => {
    const found = { folder: query.get("folder"), trigger: query.get("trigger") };
    const draft = loadDraft(undefined);
    if (draft !== null) storeDraft(undefined, withGiven(draft, found));
    return found;
  });
  return given;
}

function EditJob({ id }: { id: string }) {
  const { data, error } = useJob(id);
  // the text that editing began with; what the stream brings later must not overwrite what is being typed
  const [first, setFirst] = useState<string | null>(null);
  if (data && first === null) setFirst(data.yaml);
  if (error && !data) return <ErrorPage title="Edit job" error={error} />;
  if (!data || first === null) return <WaitingPage title="Edit job" />;
  const title = `Edit ${data.name}`;
  return (
    <WithForm title={title}>
      {(form) => <Editor {...form} title={title} id={id} first={first} saved={data.yaml} draft={loadDraft(id)} />}
    </WithForm>
  );
}

interface WithFormProps {
  title: string;
  children: (form: { schema: FormSchema; models: ModelInfo[] }) => React.ReactNode;
}

function WithForm({ title, children }: WithFormProps) {
  const schema = useFormSchema();
  const models = useModels();
  const error = schema.error ?? models.error;
  if (error) return <ErrorPage title={title} error={error} />;
  if (!schema.data || !models.data) return <WaitingPage title={title} />;
  return children({ schema: schema.data, models: models.data });
}

function WaitingPage({ title }: { title: string }) {
  return (
    <Page title={title}>
      <Waiting what="Reading the form" />
    </Page>
  );
}

function ErrorPage({ title, error }: { title: string; error: unknown }) {
  return (
    <Page title={title}>
      <ErrorCard error={error} />
    </Page>
  );
}
