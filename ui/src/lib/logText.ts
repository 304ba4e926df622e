/** Log lines as text: what would steer a terminal or turn the reading direction becomes visible instead. */

// oxlint-disable-next-line no-control-regex
const STEERING = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g;

/** Control characters as their pictures (ESC as ␛), direction marks as their code. */
export function visible(line: string): string {
  return line.replace(STEERING, (character) => {
    const code = character.codePointAt(0)!;
    if (code < 0x20) return String.fromCodePoint(0x2400 + code);
    if (code === 0x7f) return "\u2421";
    return `<U+${code.toString(16).toUpperCase().padStart(4, "0")}>`;
  });
}

export type Piece = { text: string; isHit: boolean };

/** A line cut at each place where the searched text stands, whatever the letter case. */
export function pieces(line: string, search: string): Piece[] {
  const text = visible(line);
  if (!search) return [{ text, isHit: false }];
  const found: Piece[] = [];
  const [lower, wanted] = [text.toLowerCase(), search.toLowerCase()];
  let from = 0;
  for (let at = lower.indexOf(wanted); at >= 0; at = lower.indexOf(wanted, from)) {
    if (at > from) found.push({ text: text.slice(from, at), isHit: false });
    found.push({ text: text.slice(at, at + wanted.length), isHit: true });
    from = at + wanted.length;
  }
  if (from < text.length || !found.length) found.push({ text: text.slice(from), isHit: false });
  return found;
}

export function toneOf(line: string): "bad" | "warn" | "plain" {
  if (/\b(error|traceback|exception|fatal|cuda out of memory)\b/i.test(line)) return "bad";
  return /\bwarn(ing)?\b/i.test(line) ? "warn" : "plain";
}
