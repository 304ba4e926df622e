/** What was changed between two captions, word by word. */
export interface Piece {
  kind: "same" | "del" | "ins";
  text: string;
}

/** Of a table of that many cells, longer captions are shown as replaced. */
const MOST_CELLS = 1_000_000;

/** Pieces of both texts in order: without those of kind `ins` they are `before`, without `del` they are `after`. */
export function wordDiff(before: string, after: string): Piece[] {
  const [old, fresh] = [wordsOf(before), wordsOf(after)];
  let start = 0;
  while (start < Math.min(old.length, fresh.length) && old[start] === fresh[start]) start += 1;
  let end = 0;
  while (end < Math.min(old.length, fresh.length) - start && old.at(-1 - end) === fresh.at(-1 - end)) end += 1;
  const middle = between(old.slice(start, old.length - end), fresh.slice(start, fresh.length - end));
  return joined([...same(old.slice(0, start)), ...middle, ...same(old.slice(old.length - end))]);
}

/** Words and what stands between them: `a cat` has three. */
const wordsOf = (text: string) => text.match(/[\p{L}\p{N}_]+|\s+|[^\p{L}\p{N}_\s]/gu) ?? [];

const same = (words: string[]): Piece[] => words.map((text) => ({ kind: "same", text }));

/** By the longest common sequence of words. */
function between(old: string[], fresh: string[]): Piece[] {
  const [rows, columns] = [old.length, fresh.length];
  if (rows * columns > MOST_CELLS) return [...old.map((text) => ({ kind: "del" as const, text })), ...fresh.map((text) => ({ kind: "ins" as const, text }))];
  const lengths = Array.from({ length: rows + 1 }, () => new Uint16Array(columns + 1));
  for (let row = rows - 1; row >= 0; row -= 1)
    for (let column = columns - 1; column >= 0; column -= 1)
      lengths[row]![column] = old[row] === fresh[column] ? lengths[row + 1]![column + 1]! + 1 : Math.max(lengths[row + 1]![column]!, lengths[row]![column + 1]!);
  const pieces: Piece[] = [];
  let [row, column] = [0, 0];
  while (row < rows || column < columns) {
    if (row < rows && column < columns && old[row] === fresh[column]) {
      pieces.push({ kind: "same", text: old[row]! });
      row += 1;
      column += 1;
    } else if (column === columns || (row < rows && lengths[row + 1]![column]! >= lengths[row]![column + 1]!)) {
      pieces.push({ kind: "del", text: old[row]! });
      row += 1;
    } else {
      pieces.push({ kind: "ins", text: fresh[column]! });
      column += 1;
    }
  }
  return pieces;
}

/** Neighbours of one kind as one; a space between changed words is changed with them, so that phrases stay whole. */
function joined(pieces: Piece[]): Piece[] {
  const found: Piece[] = [];
  let [gone, came] = ["", ""];
  const flush = () => {
    if (gone) found.push({ kind: "del", text: gone });
    if (came) found.push({ kind: "ins", text: came });
    [gone, came] = ["", ""];
  };
  pieces.forEach(({ kind, text }, place) => {
    const isBetween = kind === "same" && /^\s+$/.test(text) && (gone || came) && (pieces[place + 1]?.kind ?? "same") !== "same";
    if (kind === "del" || isBetween) gone += text;
    if (kind === "ins" || isBetween) came += text;
    if (kind !== "same" || isBetween) return;
    flush();
    const last = found.at(-1);
    if (last?.kind === "same") last.text += text;
    else found.push({ kind: "same", text });
  });
  flush();
  return found;
}
