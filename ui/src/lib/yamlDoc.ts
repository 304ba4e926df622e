/** Edits of a job's YAML in place: only the lines of the changed key change; comments, order and spacing stay. */
import type { Fix } from "../generated/api";
import { isMap, isScalar, isSeq, parseDocument, stringify, type Document, type Node, type Pair, type YAMLMap, type YAMLSeq } from "yaml";

export type Path = readonly (string | number)[];

export type Change = Pick<Fix, "edits" | "renames">;

export interface SyntaxProblem {
  message: string;
  offset: number;
  line: number;
}

/** The place of a dotted key of the first process: "datasets.0.folder_path". `config.name` is a place of its own. */
export function jobPath(dotted: string): Path {
  const parts = dotted.split(".").map((part) => (/^\d+$/.test(part) ? Number(part) : part));
  return dotted === "config.name" ? parts : ["config", "process", 0, ...parts];
}

/** The text as plain values; undefined where it is not YAML. */
export function parseJob(text: string): { value: unknown; problems: SyntaxProblem[] } {
  const document = parseDocument(text, { uniqueKeys: true });
  const problems = document.errors.map((error) => ({
    message: error.message.split("\n")[0]!.replace(/ at line \d+, column \d+:?$/, ""),
    offset: error.pos[0],
    line: text.slice(0, error.pos[0]).split("\n").length,
  }));
  return { value: problems.length ? undefined : document.toJS(), problems };
}

/** What stands at a place of plain values. */
export function valueAt(value: unknown, path: Path): unknown {
  let here = value;
  for (const key of path) {
    if (here === null || typeof here !== "object") return undefined;
    here = (here as Record<string | number, unknown>)[key];
  }
  return here;
}

/** The text with a value set. Text that is not YAML comes back as it is. */
export function setIn(text: string, path: Path, value: unknown): string {
  return checked(text, path, value, () => withValue(text, path, value));
}

/** The text without a key; sections that it leaves empty go with it. */
export function deleteIn(text: string, path: Path): string {
  return checked(text, path, undefined, () => withoutKey(text, path));
}

/** The text with a key under another name, in its place and with its comments. */
export function renameIn(text: string, path: Path, name: string): string {
  const parent = parseDocument(text).getIn(path.slice(0, -1), true);
  const key = isMap(parent) ? pairOf(parent, path[path.length - 1]!)?.key : undefined;
  if (!isNode(key) || !key.range) return text;
  return text.slice(0, key.range[0]) + inline(name) + text.slice(key.range[1]);
}

/** What a fix changes: first new names, then values. */
export function applyFix(text: string, { edits, renames }: Change): string {
  const renamed = Object.entries(renames ?? {}).reduce((now, [key, name]) => renameIn(now, jobPath(key), name), text);
  return applyEdits(renamed, edits);
}

/** Edits by dotted key: null takes a key away. */
export function applyEdits(text: string, edits: Record<string, unknown>): string {
  return Object.entries(edits).reduce(
    (now, [key, value]) => (value === null ? deleteIn(now, jobPath(key)) : setIn(now, jobPath(key), value)),
    text,
  );
}

/** Where a key or list entry stands in the text, or the nearest section around it. */
export function rangeOf(text: string, path: Path): [number, number] | null {
  const document = parseDocument(text);
  for (let length = path.length; length > 0; length -= 1) {
    const node = document.getIn(path.slice(0, length), true);
    if (isNode(node) && node.range) {
      const parent = document.getIn(path.slice(0, length - 1), true);
      const key = isMap(parent) ? pairOf(parent, path[length - 1]!)?.key : undefined;
      const from = isNode(key) && key.range ? key.range[0] : node.range[0];
      const to = length === path.length ? contentEnd(node) : from;
      return [from, Math.max(to, endOfWord(text, from))];
    }
  }
  return null;
}

/** Hold the quick edit against its meaning; if it says something else, let the library write the whole document. */
function checked(text: string, path: Path, value: unknown, edit: () => string | null): string {
  const document = parseDocument(text);
  if (document.errors.length) return text;
  if (value === undefined) removeAndPrune(document, path);
  else if (document.contents === null) document.contents = document.createNode(nested(path, value)) as never;
  else setDeep(document, path, value);
  const quick = edit();
  if (quick !== null) {
    const result = parseDocument(quick);
    if (!result.errors.length && same(result.toJS(), document.toJS())) return quick;
  }
  return document.toString({ lineWidth: 0 });
}

function withValue(text: string, path: Path, value: unknown): string | null {
  const document = parseDocument(text);
  let parent: unknown = document.contents;
  for (const [depth, key] of path.entries()) {
    const node = child(parent, key);
    const isLast = depth === path.length - 1;
    const isEmpty = isScalar(node) && node.value === null;
    if (isLast && node) return replaced(text, node, value);
    if (!node || isEmpty) {
      if (isEmpty && isMap(parent)) return refilled(text, parent, key, nested(path.slice(depth + 1), value));
      return inserted(text, parent, key, nested(path.slice(depth + 1), value));
    }
    parent = node;
  }
  return null;
}

function replaced(text: string, node: Node, value: unknown): string | null {
  const [from, to] = node.range!;
  if (!isScalar(node) && !(isSeq(node) && node.flow)) return null;
  if (isScalar(node) && (node.type === "BLOCK_FOLDED" || node.type === "BLOCK_LITERAL"))
    return `${text.slice(0, from)}${inline(value)}\n${text.slice(to)}`;
  const gap = text[from - 1] === ":" ? " " : "";
  return text.slice(0, from) + gap + inline(value) + text.slice(to);
}

/** `key:` with nothing behind it gets a section. */
function refilled(text: string, parent: YAMLMap, key: string | number, value: unknown): string | null {
  const pair = pairOf(parent, key);
  if (!pair || !isNode(pair.key)) return null;
  const indent = columnOf(text, pair.key.range![0]);
  const line = endOfLine(text, pair.key.range![1]);
  return splice(text, line, `\n${block(value, indent + 2)}`);
}

function inserted(text: string, parent: unknown, key: string | number, value: unknown): string | null {
  if (!isMap(parent) && !isSeq(parent)) return null;
  if (parent.flow) return insertedInFlow(text, parent, key, value);
  if (!parent.items.length) return null;
  const line = endOfLine(text, contentEnd(parent));
  if (isSeq(parent)) {
    if (key !== parent.items.length) return null;
    const dash = text.lastIndexOf("-", (parent.items[0] as Node).range![0]);
    return splice(text, line, `\n${block([value], columnOf(text, dash))}`);
  }
  const first = (parent.items[0] as Pair).key as Node;
  return splice(text, line, `\n${block({ [key]: value }, columnOf(text, first.range![0]))}`);
}

/** Into `{…}` or `[…]`, at its end. */
function insertedInFlow(text: string, parent: YAMLMap | YAMLSeq, key: string | number, value: unknown): string {
  const comma = parent.items.length ? ", " : "";
  const entry = isMap(parent) ? inline({ [key]: value }).slice(1, -1).trim() : inline(value);
  return splice(text, parent.range![1] - 1, comma + entry);
}

function withoutKey(text: string, path: Path): string | null {
  const document = parseDocument(text);
  const key = path[path.length - 1]!;
  const parent = document.getIn(path.slice(0, -1), true);
  if (!isMap(parent) && !isSeq(parent)) return text;
  const place = isMap(parent) ? parent.items.findIndex((pair) => keyOf(pair) === key) : Number(key);
  const item = parent.items[place];
  if (!item) return text;
  if (parent.items.length === 1) return path.length > 1 ? withoutKey(text, path.slice(0, -1)) : null;
  if (parent.flow) return null;
  const node = (isMap(parent) ? (item as Pair).key : item) as Node;
  const last = (isMap(parent) ? ((item as Pair).value ?? (item as Pair).key) : item) as Node;
  const lineStart = text.lastIndexOf("\n", node.range![0] - 1) + 1;
  const before = text.slice(lineStart, node.range![0]);
  if (isMap(parent) && before.includes("-")) {
    // the first key of a list entry shares its line with the dash
    const next = (parent.items[place + 1] as Pair | undefined)?.key as Node | undefined;
    return next ? text.slice(0, node.range![0]) + text.slice(next.range![0]) : null;
  }
  return text.slice(0, lineStart) + text.slice(Math.min(text.length, endOfLine(text, contentEnd(last)) + 1));
}

function removeAndPrune(document: Document, path: Path): void {
  document.deleteIn(path);
  const parent = document.getIn(path.slice(0, -1), true);
  if (path.length > 1 && (isMap(parent) || isSeq(parent)) && !parent.items.length)
    removeAndPrune(document, path.slice(0, -1));
}

function setDeep(document: Document, path: Path, value: unknown): void {
  for (let depth = 0; depth < path.length; depth += 1) {
    const node = document.getIn(path.slice(0, depth + 1), true);
    if (node === undefined || (isScalar(node) && node.value === null)) {
      document.setIn(path.slice(0, depth + 1), document.createNode(nested(path.slice(depth + 1), value)));
      return;
    }
  }
  document.setIn(path, document.createNode(value));
}

function nested(path: Path, value: unknown): unknown {
  return path.reduceRight<unknown>((inner, key) => (typeof key === "number" ? [inner] : { [key]: inner }), value);
}

/** A value on one line. As YAML 1.1 quotes it, so that `yes` stays a word for every reader. */
function inline(value: unknown): string {
  return stringify(value, { collectionStyle: "flow", lineWidth: 0, version: "1.1", flowCollectionPadding: false }).trimEnd();
}

function block(value: unknown, indent: number): string {
  const text = stringify(value, { lineWidth: 0, version: "1.1", indentSeq: true }).trimEnd();
  return text.replace(/^/gm, " ".repeat(indent));
}

/** The end of the last character of a node, without the comments and blank lines behind it. */
function contentEnd(node: Node): number {
  if ((isMap(node) || isSeq(node)) && !node.flow && node.items.length) {
    const last = node.items[node.items.length - 1] as Pair | Node;
    if (isNode(last)) return contentEnd(last);
    const value = isNode(last.value) && !(isScalar(last.value) && last.value.source === "") ? last.value : last.key;
    return contentEnd(value as Node);
  }
  const isBlock = isScalar(node) && (node.type === "BLOCK_FOLDED" || node.type === "BLOCK_LITERAL");
  return isBlock ? node.range![1] - 1 : node.range![1];
}

function child(parent: unknown, key: string | number): Node | undefined {
  if (isMap(parent)) return (pairOf(parent, key)?.value as Node | null) ?? undefined;
  return isSeq(parent) ? (parent.items[Number(key)] as Node | undefined) : undefined;
}

function pairOf(map: YAMLMap, key: string | number): Pair | undefined {
  return (map.items as Pair[]).find((pair) => keyOf(pair) === key);
}

const keyOf = (pair: Pair): unknown => (isScalar(pair.key) ? pair.key.value : undefined);
const isNode = (value: unknown): value is Node => isMap(value) || isSeq(value) || isScalar(value);
const splice = (text: string, at: number, more: string) => text.slice(0, at) + more + text.slice(at);
const columnOf = (text: string, offset: number) => offset - (text.lastIndexOf("\n", offset - 1) + 1);
const endOfWord = (text: string, from: number) => from + (/^[^\s:]*/.exec(text.slice(from))?.[0].length ?? 0);
const endOfLine = (text: string, from: number) => (text.indexOf("\n", from) < 0 ? text.length : text.indexOf("\n", from));
const same = (a: unknown, b: unknown) => JSON.stringify(a) === JSON.stringify(b);
