/** One dataset: its pictures with their captions, what may spoil a training, uploads, and edits of many captions. */
import { useCallback, useEffect, useMemo, useState, useDeferredValue } from "react";
import { Link, useLocation } from "wouter";
import { Button } from "../../components/Button";
import { Icon } from "../../components/Icon";
import { Empty, ErrorCard, Page, Waiting } from "../../components/Page";
import { Menu } from "../../components/Menu";
import { useToast } from "../../components/Toasts";
import type { CompanionFolder, DatasetDetail, Doctor } from "../../generated/api";
import { CaptionSaver } from "../../lib/captionSaver";
import { ago, bytes, count, sentence } from "../../lib/format";
import { CaptionDialog } from "../captioning/CaptionDialog";
import { OpenProposals } from "../captioning/OpenProposals";
import { BulkDialog } from "./BulkDialog";
import { DoctorPanel } from "./DoctorPanel";
import { PictureGrid } from "./PictureGrid";
import { DropZone, UploadPanel, useUploads } from "./Uploads";
import { saveCaption, useDataset, useDeleteDataset, useDoctor, usePictures, usePutCaption, useRefresh, useRemove, useUndo, type Filter } from "./requests";
import "./datasets.css";

const ALL: Filter = { q: "", kind: "" };
const NO_CAPTION = "caption missing";

export function DatasetPage({ id }: { id: string }) {
  const { data, error } = useDataset(id);
  usePictures(id, ALL, 0, 0); // asked for at the same time: the first pictures are what is waited for
  // a folder that is deleted under the page keeps what is typed in view, below the reason
  if (data) return <Dataset dataset={data} error={error} />;
  return <Page title="Dataset">{error ? <ErrorCard error={error} title="Couldn’t load the dataset" /> : <Waiting what="Loading the dataset" />}</Page>;
}

function Dataset({ dataset, error }: { dataset: DatasetDetail; error: unknown }) {
  const { id } = dataset;
  const doctor = useDoctor(id);
  const [filter, setFilter] = useState(ALL);
  const q = useDeferredValue(filter.q);
  const shown = useMemo(() => ({ q, kind: filter.kind }), [q, filter.kind]);
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const [isEditing, setEditing] = useState(false);
  const [isCaptioning, setCaptioning] = useState(false);
  const saver = useSaver(id);
  const uploads = useUploads(dataset);
  useRefreshAfter(id, doctor.data);
  const caption = () => void saver.flushAll().then(() => setCaptioning(true));
  const edit = () => void saver.flushAll().then(() => setEditing(true));
  return (
    <DropZone onFiles={uploads.add}>
      <Page title={dataset.name} aside={<Facts dataset={dataset} />} actions={<Actions dataset={dataset} onFiles={uploads.add} trigger={doctor.data?.trigger_word} />}>
        {error != null && <ErrorCard error={error} title="This may be out of date" />}
        <UploadPanel uploads={uploads} />
        <div className="dataset-body">
          <div className="dataset-main">
            <Filters filter={filter} onFilter={setFilter} doctor={doctor.data} />
            <BesideFolders folders={dataset.companions} />
            <OpenProposals dataset={id} />
            <BulkBar dataset={dataset} selected={selected} onSelect={setSelected} onEdit={edit} onCaption={caption} saver={saver} />
            {dataset.num_pictures ? (
              <PictureGrid id={id} filter={shown} saver={saver} selected={selected} onSelect={setSelected} onClear={() => setFilter(ALL)} />
            ) : (
              <Empty title="No pictures yet.">
                <p>Drop pictures, caption files (photo.txt next to photo.jpg) or a zip file anywhere on this page.</p>
              </Empty>
            )}
          </div>
          <DoctorPanel dataset={dataset} doctor={doctor.data} error={doctor.error} kind={filter.kind} onKind={(kind) => setFilter({ ...filter, kind })} />
        </div>
      </Page>
      {isCaptioning && <CaptionDialog dataset={dataset} trigger={doctor.data?.trigger_word} onClose={() => setCaptioning(false)} />}
      {isEditing && <BulkDialog id={id} filter={shown} files={selected.size ? [...selected] : null} saver={saver} onClose={() => setEditing(false)} />}
    </DropZone>
  );
}

function Facts({ dataset }: { dataset: DatasetDetail }) {
  return (
    <span className="hint figure">
      {count(dataset.num_pictures, "picture")} · {count(dataset.num_captioned, "caption")} · {bytes(dataset.num_bytes)}
    </span>
  );
}

/** Where references, masks and counterparts are, and how many pictures lack theirs. */
function BesideFolders({ folders }: { folders: CompanionFolder[] }) {
  if (!folders.length) return null;
  return (
    <ul className="beside-folders hint">
      {folders.map(({ role, path, job, num_missing }) => (
        <li key={`${role} ${path}`}>
          {sentence(role)}s in <code className="path">{path}</code>
          {job && `, as job ${job} says`}
          {num_missing > 0 && <span className="tone-warn figure">{` · ${num_missing.toLocaleString("en")} missing`}</span>}
        </li>
      ))}
    </ul>
  );
}

function Actions({ dataset, onFiles, trigger }: { dataset: DatasetDetail; onFiles: (files: File[]) => void; trigger?: string }) {
  const [, navigate] = useLocation();
  const remove = useDeleteDataset(dataset.id);
  const toast = useToast();
  const query = new URLSearchParams({ folder: dataset.path, ...(trigger ? { trigger } : {}) });
  const accept = [...dataset.extensions, ".zip"].join(",");
  return (
    <>
      <label className="button button-plain upload-button">
        <Icon name="up" /> <span>Add files</span>
        <input type="file" multiple accept={accept} className="visually-hidden" onChange={(event) => (onFiles([...(event.target.files ?? [])]), (event.target.value = ""))} />
      </label>
      <Link href={`/jobs/new?${query}`} className="button button-primary">
        <Icon name="play" /> <span>Train on this</span>
      </Link>
      <Menu label="More">
        <button type="button" onClick={() => void navigator.clipboard.writeText(dataset.path)}>
          <Icon name="copy" /> Copy folder
        </button>
        <button
          type="button"
          className="danger-text"
          onClick={() => remove.mutate(undefined, { onSuccess: () => (toast({ text: `${dataset.name} was moved to the trash.` }), navigate("/datasets")) })}
        >
          <Icon name="trash" /> Delete to trash
        </button>
      </Menu>
    </>
  );
}

interface FiltersProps {
  filter: Filter;
  onFilter: (filter: Filter) => void;
  doctor: Doctor | undefined;
}

function Filters({ filter, onFilter, doctor }: FiltersProps) {
  const kinds = (doctor?.kinds ?? []).filter(({ kind }) => kind !== NO_CAPTION);
  return (
    <div className="filters">
      <label className="search">
        <Icon name="search" />
        <span className="visually-hidden">Search names and captions</span>
        <input type="search" placeholder="Name or caption" value={filter.q} onChange={(event) => onFilter({ ...filter, q: event.target.value })} />
      </label>
      <label className="inline-field">
        <span className="visually-hidden">Show</span>
        <select value={filter.kind} onChange={(event) => onFilter({ ...filter, kind: event.target.value })}>
          <option value="">All pictures</option>
          <option value={NO_CAPTION}>No caption</option>
          {kinds.map(({ kind, title, count: number }) => (
            <option key={kind} value={kind}>
              {`${sentence(title)} (${number})`}
            </option>
          ))}
        </select>
      </label>
    </div>
  );
}

interface BulkBarProps {
  dataset: DatasetDetail;
  selected: ReadonlySet<string>;
  onSelect: (selected: ReadonlySet<string>) => void;
  onEdit: () => void;
  onCaption: () => void;
  saver: CaptionSaver;
}

function BulkBar({ dataset, selected, onSelect, onEdit, onCaption, saver }: BulkBarProps) {
  const undo = useUndo(dataset.id);
  const remove = useRemove(dataset.id);
  const toast = useToast();
  const step = dataset.undo;
  const takeBack = () =>
    step &&
    undo.mutate(step.id, {
      onSuccess: ({ num_restored, num_kept }) => {
        saver.forgetSaved();
        const kept = num_kept ? ` ${count(num_kept, "caption")} edited since stay as they are.` : "";
        toast({ text: `${count(num_restored, "caption")} restored.${kept}` });
      },
    });
  const putAway = () =>
    remove.mutate([...selected], {
      onSuccess: ({ num_pictures, place }) => {
        onSelect(new Set());
        toast({ text: `${count(num_pictures, "picture")} moved to ${place}.` });
      },
    });
  if (!dataset.num_pictures) return null;
  return (
    <div className="row bulk-bar" role="group" aria-label="Many captions at once">
      <Button icon="pencil" onClick={onEdit}>
        {selected.size ? `Edit ${count(selected.size, "caption")}…` : "Edit all shown captions…"}
      </Button>
      {!selected.size && (
        <Button icon="bolt" onClick={onCaption}>
          Caption with a model…
        </Button>
      )}
      {selected.size > 0 && (
        <>
          <Button icon="trash" busy={remove.isPending} onClick={putAway}>
            Remove {count(selected.size, "picture")}
          </Button>
          <Button icon="cross" look="quiet" onClick={() => onSelect(new Set())}>
            Clear selection
          </Button>
        </>
      )}
      {step && (
        <Button icon="undo" look="quiet" busy={undo.isPending} onClick={takeBack} title={`${step.what}, ${count(step.num_captions, "caption")}, ${ago(step.time)}`}>
          Undo: {step.what}
        </Button>
      )}
    </div>
  );
}

/** Captions that are typed on this page; whoever leaves is held back while one is not saved. */
function useSaver(id: string): CaptionSaver {
  const put = usePutCaption(id);
  const [saver] = useState(() => new CaptionSaver((edit) => saveCaption(id, edit), put));
  const hold = useCallback((event: BeforeUnloadEvent) => saver.isUnsaved && event.preventDefault(), [saver]);
  useEffect(() => {
    window.addEventListener("beforeunload", hold);
    return () => {
      window.removeEventListener("beforeunload", hold);
      void saver.flushAll();
    };
  }, [saver, hold]);
  return saver;
}

/** New findings change the badges of pictures. */
function useRefreshAfter(id: string, doctor: Doctor | undefined): void {
  const refresh = useRefresh(id);
  const [seen, setSeen] = useState<number | null | undefined>(undefined);
  useEffect(() => {
    if (doctor === undefined || doctor.time === seen) return;
    setSeen(doctor.time);
    if (seen !== undefined) refresh();
  }, [doctor, seen, refresh]);
}
