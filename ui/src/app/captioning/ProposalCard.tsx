/** One proposed caption: what it changes, word by word, and the text that can be edited. */
import { useMemo, useState, type KeyboardEvent } from "react";
import { Button } from "../../components/Button";
import type { ProposalRow } from "../../generated/api";
import { fileUrl } from "../../lib/api";
import { wordDiff } from "../../lib/wordDiff";

interface Props {
  row: ProposalRow;
  text: string;
  isBusy: boolean;
  onEdit: (text: string) => void;
  onAccept: () => void;
  onSkip: () => void;
}

export function ProposalCard({ row, text, isBusy, onEdit, onAccept, onSkip }: Props) {
  const [isBroken, setBroken] = useState(false);
  const canAccept = !isBusy && text.trim() !== "";
  const keys = (event: KeyboardEvent<HTMLLIElement>) => {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey) || !canAccept) return;
    event.preventDefault();
    event.currentTarget.nextElementSibling?.querySelector("textarea")?.focus();
    onAccept();
  };
  return (
    <li className="proposal" onKeyDown={keys}>
      <div className="proposal-picture">{isBroken ? <span className="hint">No preview</span> : <img src={fileUrl(`datasets/${row.file}`, { thumb: 256 })} alt="" loading="lazy" decoding="async" onError={() => setBroken(true)} />}</div>
      <div className="proposal-words">
        <h2 className="picture-name">{row.image}</h2>
        {row.is_conflict && (
          <p className="proposal-conflict" role="note">
            <strong>Its caption was changed since it was captioned</strong>, from <q>{row.before || "no caption"}</q> to <q>{row.now || "no caption"}</q>
          </p>
        )}
        {row.now ? <Difference before={row.now} after={text} /> : <p className="hint">No caption so far</p>}
        <textarea aria-label={`Proposed caption of ${row.image}`} value={text} rows={3} spellCheck onChange={(event) => onEdit(event.target.value)} />
        <div className="row">
          <Button icon="check" disabled={!canAccept} onClick={onAccept} aria-label={`${row.is_conflict ? "Replace the caption of" : "Accept"} ${row.image}`}>
            {row.is_conflict ? "Replace" : "Accept"}
          </Button>
          <Button icon="cross" look="quiet" disabled={isBusy} onClick={onSkip} aria-label={`${row.is_conflict ? "Keep the caption of" : "Skip"} ${row.image}`}>
            {row.is_conflict ? "Keep" : "Skip"}
          </Button>
        </div>
      </div>
    </li>
  );
}

const ELEMENTS = { same: "span", del: "del", ins: "ins" } as const;

function Difference({ before, after }: { before: string; after: string }) {
  const pieces = useMemo(() => wordDiff(before, after), [before, after]);
  return (
    <p className="proposal-diff">
      {pieces.map(({ kind, text }, place) => {
        const Element = ELEMENTS[kind];
        return <Element key={place}>{text}</Element>;
      })}
    </p>
  );
}
