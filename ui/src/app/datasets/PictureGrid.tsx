/** Pictures with their captions beside them; only those in view are fetched and drawn. */
import { useWindowVirtualizer } from "@tanstack/react-virtual";
import { useEffect, useLayoutEffect, useRef, useState, type KeyboardEvent } from "react";
import { Empty, ErrorCard, Waiting } from "../../components/Page";
import type { Companion, PictureRow } from "../../generated/api";
import type { CaptionSaver } from "../../lib/captionSaver";
import { count } from "../../lib/format";
import { CaptionField } from "./CaptionField";
import { PictureDialog } from "./PictureDialog";
import { PAGE, usePictures, type Filter } from "./requests";
import { fileUrl } from "../../lib/api";

const CELL_HEIGHT = 196;
const CELL_WIDTH = 340;

interface Props {
  id: string;
  filter: Filter;
  saver: CaptionSaver;
  selected: ReadonlySet<string>;
  onSelect: (selected: ReadonlySet<string>) => void;
  onClear: () => void;
}

export function PictureGrid({ id, filter, saver, selected, onSelect, onClear }: Props) {
  const body = useRef<HTMLDivElement>(null);
  const columns = useColumns(body);
  const [known, setKnown] = useState(0);
  const [open, setOpen] = useState<PictureRow | null>(null);
  const [margin, setMargin] = useState(0);
  useLayoutEffect(() => setMargin((body.current?.getBoundingClientRect().top ?? 0) + window.scrollY), [columns, known]);
  const rows = useWindowVirtualizer({ count: Math.ceil(known / columns), estimateSize: () => CELL_HEIGHT, overscan: 2, scrollMargin: margin });
  const items = rows.getVirtualItems();
  const first = (items[0]?.index ?? 0) * columns;
  const last = Math.max(first, ((items.at(-1)?.index ?? 0) + 1) * columns - 1);
  const { total, error, pages, isOld } = usePictures(id, filter, first, Math.min(last, Math.max(0, known - 1)));
  useEffect(() => {
    if (total !== undefined) setKnown(total);
  }, [total]);
  const at = (place: number) => pages.get(Math.floor(place / PAGE))?.pictures[place % PAGE];
  const wanted = useRef<number | null>(null);
  const go = (place: number) => {
    if (place < 0 || place >= known) return;
    wanted.current = place;
    rows.scrollToIndex(Math.floor(place / columns), { align: "auto" });
    focusCaption(body.current, wanted);
  };
  useEffect(() => focusCaption(body.current, wanted));
  const toggle = (file: string) => {
    const next = new Set(selected);
    if (!next.delete(file)) next.add(file);
    onSelect(next);
  };
  if (error && total === undefined) return <ErrorCard error={error} title="Couldn’t load the pictures" />;
  if (total === undefined) return <Waiting what="Loading pictures" />;
  if (total === 0)
    return (
      <Empty title="No pictures match.">
        <button type="button" className="link" onClick={onClear}>
          Show all pictures
        </button>
      </Empty>
    );
  return (
    <>
      <p className="hint figure" role="status">
        {count(total, "picture")}
      </p>
      <div ref={body} className="pictures" role="list" aria-busy={isOld} style={{ height: rows.getTotalSize() }}>
        {items.flatMap((item) =>
          Array.from({ length: columns }, (_, column) => {
            const place = item.index * columns + column;
            if (place >= total) return null;
            const picture = at(place);
            return (
              <div
                key={place}
                role="listitem"
                aria-setsize={total}
                aria-posinset={place + 1}
                data-place={place}
                className="picture-cell"
                style={{ height: CELL_HEIGHT, width: `${100 / columns}%`, left: `${(100 * column) / columns}%`, transform: `translateY(${item.start - margin}px)` }}
              >
                {picture ? (
                  <Cell
                    key={picture.file}
                    picture={picture}
                    saver={saver}
                    isSelected={selected.has(picture.file)}
                    onToggle={() => toggle(picture.file)}
                    onOpen={() => setOpen(picture)}
                    onStep={(by) => go(place + by)}
                  />
                ) : (
                  <span className="visually-hidden">Loading</span>
                )}
              </div>
            );
          }),
        )}
      </div>
      {open && <PictureDialog picture={open} onClose={() => setOpen(null)} />}
    </>
  );
}

interface CellProps {
  picture: PictureRow;
  saver: CaptionSaver;
  isSelected: boolean;
  onToggle: () => void;
  onOpen: () => void;
  onStep: (by: number) => void;
}

function Cell({ picture, saver, isSelected, onToggle, onOpen, onStep }: CellProps) {
  const [isBroken, setBroken] = useState(picture.width === null);
  const step = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    onStep(event.shiftKey ? -1 : 1);
  };
  return (
    <div className={`picture-card ${isSelected ? "is-selected" : ""}`} onKeyDown={step}>
      <button type="button" className="picture-open" aria-label={`Show ${picture.name}`} onClick={onOpen}>
        {isBroken ? <span className="hint">No preview</span> : <img src={fileUrl(`datasets/${picture.file}`, { thumb: 256 })} alt="" loading="lazy" decoding="async" onError={() => setBroken(true)} />}
        {picture.companions.length > 0 && <Beside companions={picture.companions} />}
      </button>
      <div className="picture-words">
        <div className="picture-head">
          <label className="check">
            <input type="checkbox" checked={isSelected} onChange={onToggle} aria-label={`Select ${picture.name}`} />
          </label>
          <span className="picture-name" title={picture.name}>
            {picture.name}
          </span>
          <span className="hint figure">{picture.width ? `${picture.width} × ${picture.height}` : ""}</span>
        </div>
        <CaptionField picture={picture} saver={saver} />
        {picture.badges.length > 0 && (
          <ul className="badges" aria-label={`Findings about ${picture.name}`}>
            {picture.badges.map((badge) => (
              <li key={badge.kind} className={`pill tone-${badge.severity === "error" ? "bad" : "warn"}`} title={badge.detail}>
                {badge.title}
              </li>
            ))}
          </ul>
        )}
      </div>
    </div>
  );
}

/** References and masks in small at the foot of their picture; an empty square where one is missing. */
function Beside({ companions }: { companions: Companion[] }) {
  return (
    <span className="companions">
      {companions.map(({ role, folder, name, file }) => (
        <span key={`${role} ${folder}`} title={file ? `${role}: ${name}` : `no ${role} in ${folder}`} className={file ? undefined : "is-missing"}>
          {file ? <img src={fileUrl(`datasets/${file}`, { thumb: 128 })} alt={role} loading="lazy" decoding="async" /> : <span className="visually-hidden">no {role}</span>}
        </span>
      ))}
    </span>
  );
}

/** How many pictures stand side by side. */
function useColumns(body: { current: HTMLDivElement | null }): number {
  const [columns, setColumns] = useState(() => (window.innerWidth > 1000 ? 2 : 1));
  useEffect(() => {
    const measure = () => setColumns(Math.max(1, Math.floor((body.current?.clientWidth ?? window.innerWidth - 600) / CELL_WIDTH)));
    measure();
    const observer = new ResizeObserver(measure);
    observer.observe(body.current?.parentElement ?? document.body);
    return () => observer.disconnect();
  }, [body]);
  return columns;
}

/** Put the cursor into the caption that was asked for, as soon as it is drawn. */
function focusCaption(body: HTMLElement | null, wanted: { current: number | null }): void {
  if (wanted.current === null) return;
  const field = body?.querySelector<HTMLTextAreaElement>(`[data-place="${wanted.current}"] textarea`);
  if (!field) return;
  wanted.current = null;
  field.focus({ preventScroll: true });
}
