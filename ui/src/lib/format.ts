/** Numbers, sizes and times as people read them. Always the same width class, so that live figures do not jump. */

const BINARY = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 25769803776 -> "24.0 GiB". */
export function bytes(value: number | null | undefined): string {
  if (value == null) return "–";
  let unit = 0;
  let left = value;
  while (left >= 1024 && unit < BINARY.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? left : left.toFixed(1)} ${BINARY[unit]}`;
}

/** 5025 -> "1 h 24 min". */
export function duration(seconds: number | null | undefined): string {
  if (seconds == null || !Number.isFinite(seconds)) return "–";
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${String(minutes % 60).padStart(2, "0")} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Low and high of an estimate: "40 min to 1 h 10 min". */
export function durationRange(low: number, high: number): string {
  const [from, to] = [duration(low), duration(high)];
  return from === to ? `about ${from}` : `${from} to ${to}`;
}

/** "22:40" of today, else with the day. */
export function clock(time_s: number, now_ms: number = Date.now()): string {
  const date = new Date(time_s * 1000);
  const time = date.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const isToday = date.toDateString() === new Date(now_ms).toDateString();
  return isToday ? time : `${date.toLocaleDateString(undefined, { day: "numeric", month: "short" })} ${time}`;
}

/** "3 min ago". */
export function ago(time_s: number, now_ms: number = Date.now()): string {
  const seconds = now_ms / 1000 - time_s;
  if (seconds < 45) return "just now";
  if (seconds < 172_800) return `${duration(seconds)} ago`;
  return clock(time_s, now_ms);
}

export function seconds(value: number | null | undefined): string {
  if (value == null) return "–";
  return value >= 100 ? `${value.toFixed(0)} s/it` : value >= 1 ? `${value.toFixed(2)} s/it` : `${value.toFixed(3)} s/it`;
}

/** A figure of training: 4 significant digits, small ones with an exponent. */
export function figure(value: number | null | undefined): string {
  if (value == null || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2);
  return Number(value.toPrecision(4)).toString();
}

export function count(value: number, one: string, many: string = `${one}s`): string {
  return `${value.toLocaleString("en")} ${value === 1 ? one : many}`;
}

export function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

export function percent(share: number): string {
  return `${Math.round(100 * share)} %`;
}
