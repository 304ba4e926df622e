/** All folders of pictures that the server may use. */
import { useState, type FormEvent } from "react";
import { Link, useLocation } from "wouter";
import { Button } from "../../components/Button";
import { Dialog } from "../../components/Dialog";
import { Icon } from "../../components/Icon";
import { Empty, ErrorCard, Page, Waiting } from "../../components/Page";
import { Thumb } from "../../components/Thumb";
import type { DatasetList, DatasetRow } from "../../generated/api";
import { errorText } from "../../lib/api";
import { count } from "../../lib/format";
import { useDatasets, useMakeDataset } from "./requests";
import "./datasets.css";

export function DatasetsPage() {
  const { data, error } = useDatasets();
  const [isMaking, setMaking] = useState(false);
  return (
    <Page
      title="Datasets"
      actions={
        <Button icon="plus" look="primary" disabled={!data} onClick={() => setMaking(true)}>
          New dataset
        </Button>
      }
    >
      {data ? <Datasets list={data} /> : error ? <ErrorCard error={error} title="Couldn’t load the datasets" /> : <Waiting what="Looking for pictures" />}
      {isMaking && data && <MakeDialog homes={data.homes} onClose={() => setMaking(false)} />}
    </Page>
  );
}

function Datasets({ list }: { list: DatasetList }) {
  const [search, setSearch] = useState("");
  const wanted = search.trim().toLowerCase();
  const shown = list.datasets.filter(({ path }) => path.toLowerCase().includes(wanted));
  if (!list.datasets.length)
    return (
      <Empty title="No datasets yet.">
        <p>A dataset is a folder of pictures. Make one and drop pictures into it, or start the server with --root FOLDER.</p>
      </Empty>
    );
  return (
    <>
      <div className="filters">
        <label className="search">
          <Icon name="search" />
          <span className="visually-hidden">Search datasets</span>
          <input type="search" placeholder="Name or folder" value={search} onChange={(event) => setSearch(event.target.value)} />
        </label>
        <span className="hint figure" role="status">
          {count(shown.length, "dataset")}
        </span>
      </div>
      <ul className="dataset-list">
        {shown.map((dataset) => (
          <li key={dataset.id}>
            <DatasetCard dataset={dataset} />
          </li>
        ))}
      </ul>
    </>
  );
}

function DatasetCard({ dataset }: { dataset: DatasetRow }) {
  const missing = dataset.num_pictures - dataset.num_captioned;
  return (
    <Link href={`/datasets/${dataset.id}`} className="card dataset-card">
      <Thumb file={dataset.cover && `datasets/${dataset.cover}`} alt="" />
      <span className="dataset-words">
        <strong>{dataset.name}</strong>
        <span className="hint figure">
          {count(dataset.num_pictures, "picture")}
          {dataset.num_pictures > 0 && (missing ? ` · ${missing.toLocaleString("en")} without a caption` : " · all captioned")}
        </span>
        <code className="path">{dataset.path}</code>
      </span>
    </Link>
  );
}

function MakeDialog({ homes, onClose }: { homes: string[]; onClose: () => void }) {
  const [name, setName] = useState("");
  const [root, setRoot] = useState(0);
  const make = useMakeDataset();
  const [, navigate] = useLocation();
  const submit = (event: FormEvent) => {
    event.preventDefault();
    make.mutate({ name, root }, { onSuccess: ({ id }) => navigate(`/datasets/${id}`) });
  };
  return (
    <Dialog title="New dataset" onClose={onClose}>
      <form onSubmit={submit}>
        <label className="field">
          <span className="field-name">Name</span>
          <input
            value={name}
            autoFocus
            required
            maxLength={200}
            aria-invalid={make.isError || undefined}
            aria-describedby={make.isError ? "dataset-name-error" : undefined}
            onChange={(event) => (setName(event.target.value), make.reset())}
          />
          {make.isError && (
            <span className="error-text" id="dataset-name-error" role="alert">
              {errorText(make.error)}
            </span>
          )}
        </label>
        {homes.length > 1 ? (
          <label className="field">
            <span className="field-name">In</span>
            <select value={root} onChange={(event) => setRoot(Number(event.target.value))}>
              {homes.map((home, place) => (
                <option key={home} value={place}>
                  {home}
                </option>
              ))}
            </select>
          </label>
        ) : (
          <p className="hint">
            Its folder is made in <code className="path">{homes[0]}</code>
          </p>
        )}
        <div className="row-end">
          <Button onClick={onClose}>Cancel</Button>
          <Button type="submit" look="primary" busy={make.isPending}>
            Create
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
