/** The text of a job being edited. It is kept in the browser as one types, so that a closed tab loses nothing. */
import { useCallback, useEffect, useMemo, useState } from "react";
import { loadDraft, storeDraft } from "../lib/draft";
import { parseJob } from "../lib/yamlDoc";

/**
 * @param id of the job; undefined: a new one.
 * @param first the text where there is no draft.
 */
export function useDocument(id: string | undefined, first: string) {
  const [text, setText] = useState(() => loadDraft(id) ?? first);
  const [lastGood, setLastGood] = useState<unknown>(undefined);
  const parsed = useMemo(() => parseJob(text), [text]);
  useEffect(() => {
    if (!parsed.problems.length) setLastGood(parsed.value);
  }, [parsed]);
  useEffect(() => storeDraft(id, text === first ? null : text), [id, text, first]);
  const forget = useCallback(() => storeDraft(id, null), [id]);
  return {
    text,
    setText,
    forget,
    isChanged: text !== first,
    job: parsed.problems.length ? lastGood : parsed.value,
    syntax: parsed.problems,
  };
}
