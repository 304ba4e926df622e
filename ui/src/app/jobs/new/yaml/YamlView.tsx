/** The document as text: completion from the schema, problems beside their lines with a button that mends them. */
import { useEffect, useRef, type RefObject } from "react";
import type { Problem } from "../../../../generated/api";
import { useForm } from "../FormContext";
import { createEditor, type YamlEditor } from "./editor";

interface Props {
  /** how the page jumps to the line of a problem */
  goTo: RefObject<(problem: Problem) => void>;
  /** a problem to which to jump at once */
  wanted: Problem | null;
}

export function YamlView({ goTo, wanted }: Props) {
  const form = useForm();
  const host = useRef<HTMLDivElement>(null);
  const editor = useRef<YamlEditor | null>(null);
  const latest = useRef(form);
  latest.current = form;
  useEffect(() => {
    const made = createEditor(host.current!, {
      text: latest.current.text,
      onChange: (text) => latest.current.setText(text),
      form: () => latest.current,
    });
    editor.current = made;
    goTo.current = made.goTo;
    if (wanted) made.goTo(wanted);
    return () => {
      made.destroy();
      editor.current = null;
      goTo.current = () => {};
    };
    // the editor lives as long as the view; a later `wanted` comes through goTo
    // oxlint-disable-next-line react/exhaustive-deps
  }, [goTo]);
  useEffect(() => editor.current?.setText(form.text), [form.text]);
  useEffect(() => editor.current?.showProblems(form.problems), [form.problems]);
  return (
    <>
      <div ref={host} className="yaml-host" />
      <p className="hint">Ctrl+Space shows suggestions, Escape closes them, Tab leaves the editor.</p>
    </>
  );
}
