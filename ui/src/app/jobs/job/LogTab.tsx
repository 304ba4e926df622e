/** The log: only the lines in view are fetched and drawn; it can be searched and followed. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { useDeferredValue, useEffect, useRef, useState } from "react";
import { Button } from "../../../components/Button";
import { Icon } from "../../../components/Icon";
import { Empty, ErrorCard, Waiting } from "../../../components/Page";
import { LOG_PAGE, useLogFollow, useLogPages, useLogSize } from "../../../hooks/useLog";
import type { JobDetail } from "../../../generated/api";
import { count } from "../../../lib/format";
import { pieces, toneOf, visible } from "../../../lib/logText";
import { isLive } from "../../../lib/states";

const LINE_HEIGHT = 20;

export function LogTab({ job }: { job: JobDetail }) {
  const [search, setSearch] = useState("");
  const wanted = useDeferredValue(search);
  const size = useLogSize(job.id, wanted);
  const live = isLive(job.state);
  useLogFollow(job.id, live, job.updated);
  if (size.error && !size.data) return <ErrorCard error={size.error} title="Couldn’t load the log" />;
  if (!size.data) return <Waiting what="Loading log" />;
  if (!size.data.num_lines && !search)
    return (
      <Empty title="No log yet.">
        <p>{job.is_external ? "This run was started in a terminal, so its output went there." : "The log begins when the job starts."}</p>
      </Empty>
    );
  return (
    <Log id={job.id} numLines={size.data.num_lines} matches={wanted ? size.data.matches : []} search={search} onSearch={setSearch} live={live} />
  );
}

interface Props {
  id: string;
  numLines: number;
  matches: number[];
  search: string;
  onSearch: (search: string) => void;
  live: boolean;
}

function Log({ id, numLines, matches, search, onSearch, live }: Props) {
  const box = useRef<HTMLDivElement>(null);
  const [follows, setFollows] = useState(true);
  const [match, setMatch] = useState(0);
  const lines = useVirtualizer({
    count: numLines,
    getScrollElement: () => box.current,
    estimateSize: () => LINE_HEIGHT,
    overscan: 20,
  });
  const items = lines.getVirtualItems();
  const pages = useLogPages(id, items[0]?.index ?? Math.max(0, numLines - 1), items.at(-1)?.index ?? numLines - 1, numLines);
  const lineAt = (place: number) => pages.get(Math.floor(place / LOG_PAGE))?.lines[place % LOG_PAGE];
  useEffect(() => {
    if (follows && numLines) lines.scrollToIndex(numLines - 1, { align: "end" });
  }, [follows, numLines, lines]);
  const goMatch = (to: number) => {
    if (!matches.length) return;
    const next = (to + matches.length) % matches.length;
    setMatch(next);
    setFollows(false);
    lines.scrollToIndex(matches[next]!, { align: "center" });
  };
  const first = matches[0];
  useEffect(() => {
    if (first === undefined) return;
    setMatch(0);
    setFollows(false);
    lines.scrollToIndex(first, { align: "center" });
  }, [first, lines]);
  const copy = () => navigator.clipboard.writeText(items.map(({ index }) => visible(lineAt(index) ?? "")).join("\n"));
  return (
    <section aria-label="Log">
      <div className="filters">
        <label className="search">
          <Icon name="search" />
          <span className="visually-hidden">Search the log</span>
          <input
            type="search"
            placeholder="Search the log"
            value={search}
            onChange={(event) => onSearch(event.target.value)}
            onKeyDown={(event) => event.key === "Enter" && goMatch(match + (event.shiftKey ? -1 : 1))}
          />
        </label>
        {search && (
          <span className="row">
            <span className="figure hint" role="status">
              {matches.length ? `${match + 1} of ${matches.length.toLocaleString("en")}` : "No matches"}
            </span>
            <Button icon="up" look="quiet" label="Previous match" disabled={!matches.length} onClick={() => goMatch(match - 1)} />
            <Button icon="down" look="quiet" label="Next match" disabled={!matches.length} onClick={() => goMatch(match + 1)} />
          </span>
        )}
        <span className="hint figure push">{count(numLines, "line")}</span>
        <label className="check">
          <input type="checkbox" checked={follows} onChange={() => setFollows(!follows)} /> {live ? "Follow" : "Stay at end"}
        </label>
        <Button icon="copy" look="quiet" onClick={copy}>
          Copy visible lines
        </Button>
      </div>
      <div
        ref={box}
        className="log"
        tabIndex={0}
        role="log"
        aria-live="off"
        aria-label="Log lines"
        onWheel={(event) => event.deltaY < 0 && setFollows(false)}
        onKeyDown={(event) => ["ArrowUp", "PageUp", "Home"].includes(event.key) && setFollows(false)}
      >
        <div style={{ height: lines.getTotalSize(), position: "relative" }}>
          {items.map(({ index, start }) => (
            <div key={index} className={`log-line ${index === matches[match] ? "is-match" : ""}`} style={{ transform: `translateY(${start}px)` }}>
              <span className="log-number" aria-hidden="true">{index + 1}</span>
              <LogLine text={lineAt(index)} search={search} />
            </div>
          ))}
        </div>
      </div>
    </section>
  );
}

function LogLine({ text, search }: { text: string | undefined; search: string }) {
  if (text === undefined) return <span className="log-text hint">…</span>;
  return (
    <span className={`log-text log-${toneOf(text)}`}>
      {pieces(text, search).map((piece, place) => (piece.isHit ? <mark key={place}>{piece.text}</mark> : piece.text))}
    </span>
  );
}
