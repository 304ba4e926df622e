/** A CodeMirror in a shadow root: its style element would be refused in the page itself. */
import { autocompletion } from "@codemirror/autocomplete";
import { yaml } from "@codemirror/lang-yaml";
import { HighlightStyle, syntaxHighlighting } from "@codemirror/language";
import { lintGutter, setDiagnostics, type Diagnostic } from "@codemirror/lint";
import { EditorState } from "@codemirror/state";
import { EditorView } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { basicSetup } from "codemirror";
import type { Problem } from "../../../../generated/api";
import { applyFix, jobPath, rangeOf } from "../../../../lib/yamlDoc";
import type { FormState } from "../FormContext";
import { completeJob } from "./complete";

export interface YamlEditor {
  setText: (text: string) => void;
  showProblems: (problems: readonly Problem[]) => void;
  goTo: (problem: Problem) => void;
  destroy: () => void;
}

interface Options {
  text: string;
  onChange: (text: string) => void;
  form: () => FormState;
}

const COLOURS = HighlightStyle.define([
  { tag: [tags.propertyName, tags.definition(tags.propertyName)], color: "var(--code-key)" },
  { tag: tags.comment, color: "var(--text-2)", fontStyle: "italic" },
  { tag: [tags.string, tags.content], color: "var(--text)" },
  { tag: [tags.number, tags.bool, tags.null, tags.keyword], color: "var(--code-value)" },
]);

const THEME = EditorView.theme({
  "&": { fontSize: "13px", backgroundColor: "var(--field)", color: "var(--text)", maxHeight: "75vh", minHeight: "360px" },
  ".cm-scroller": { fontFamily: "var(--mono)", lineHeight: "1.55" },
  ".cm-gutters": { backgroundColor: "var(--field)", color: "var(--text-2)", border: "none" },
  ".cm-activeLine, .cm-activeLineGutter": { backgroundColor: "var(--hover)" },
  "&.cm-focused": { outline: "2px solid var(--accent)", outlineOffset: "-1px" },
  ".cm-cursor": { borderLeftColor: "var(--text)" },
  "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "var(--selection)" },
  ".cm-tooltip": { backgroundColor: "var(--raised)", color: "var(--text)", border: "1px solid var(--line-2)", borderRadius: "6px" },
  ".cm-tooltip-autocomplete ul li[aria-selected]": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
  ".cm-panels": { backgroundColor: "var(--raised)", color: "var(--text)" },
  ".cm-diagnosticAction": { backgroundColor: "var(--accent)", color: "var(--on-accent)" },
});

export function createEditor(host: HTMLElement, { text, onChange, form }: Options): YamlEditor {
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  const view = new EditorView({
    root,
    parent: root,
    state: EditorState.create({
      doc: text,
      extensions: [
        basicSetup,
        yaml(),
        lintGutter(),
        autocompletion({ override: [(context) => completeJob(context, form())] }),
        syntaxHighlighting(COLOURS),
        THEME,
        EditorView.lineWrapping,
        EditorView.contentAttributes.of({ "aria-label": "Job as YAML", tabindex: "0" }),
        EditorView.updateListener.of((update) => {
          if (update.docChanged) onChange(update.state.doc.toString());
        }),
      ],
    }),
  });
  const change = (next: string) => {
    const now = view.state.doc.toString();
    if (next === now) return;
    // only what differs is replaced: the cursor and the undo history stay
    let from = 0;
    while (from < now.length && now[from] === next[from]) from += 1;
    let end = 0;
    while (end < Math.min(now.length, next.length) - from && now.at(-1 - end) === next.at(-1 - end)) end += 1;
    view.dispatch({ changes: { from, to: now.length - end, insert: next.slice(from, next.length - end) } });
  };
  const place = (problem: Problem): [number, number] => {
    const now = view.state.doc;
    if (problem.line && problem.line <= now.lines) {
      const line = now.line(problem.line);
      const from = Math.min(line.to, line.from + Math.max(0, (problem.column ?? 1) - 1));
      return [problem.column ? from : line.from + (/^\s*(- )?/.exec(line.text)?.[0].length ?? 0), line.to];
    }
    return (problem.where ? rangeOf(now.toString(), jobPath(problem.where)) : null) ?? [0, 0];
  };
  const diagnostic = (problem: Problem): Diagnostic => {
    const [from, to] = place(problem);
    return {
      from,
      to,
      severity: problem.severity === "notice" ? "info" : problem.severity,
      message: problem.where ? `${problem.where}: ${problem.what}` : problem.what,
      actions: problem.fix
        ? [{ name: problem.fix.label, apply: (current) => change(applyFix(current.state.doc.toString(), problem.fix!)) }]
        : [],
    };
  };
  return {
    setText: change,
    showProblems: (problems) => {
      const found = problems.map(diagnostic).sort((a, b) => a.from - b.from);
      view.dispatch(setDiagnostics(view.state, found));
    },
    goTo: (problem) => {
      const [from] = place(problem);
      view.dispatch({ selection: { anchor: from }, effects: EditorView.scrollIntoView(from, { y: "center" }) });
      view.focus();
    },
    destroy: () => view.destroy(),
  };
}
