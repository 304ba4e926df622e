/** The title and the icon of this tab: what page it shows, and how far the jobs are. */
import { iconOf, titleOf, type TabSign } from "./tabSign";

const USUAL_ICON = "/favicon.svg";
let page = "Home";
let sign: TabSign | null = null;

export function setTabPage(title: string): void {
  page = title;
  draw();
}

export function setTabSign(next: TabSign | null): void {
  sign = next;
  draw();
}

function draw(): void {
  const title = titleOf(page, sign);
  if (document.title !== title) document.title = title;
  const link = document.querySelector<HTMLLinkElement>("link[rel=icon]");
  const icon = iconOf(sign) ?? USUAL_ICON;
  if (link && link.getAttribute("href") !== icon) link.setAttribute("href", icon);
}
