// The tabs. The URL says which one is shown, so that Back and a link lead to it.

import { find } from "../page.js";
import { read, TABS } from "./address.js";

let shown;

/** Show the tab of the URL. `acts` has `open` and perhaps `hide` of each tab. */
export function open(acts) {
  const { tab } = read();
  for (const name of TABS) {
    find(`tab-${name}`).setAttribute("aria-selected", name === tab);
    find(`tab-${name}`).tabIndex = name === tab ? 0 : -1;
    find(`${name}-panel`).hidden = name !== tab;
  }
  if (tab !== shown) acts[shown]?.hide?.();
  shown = tab;
  acts[tab].open();
}

function move(event) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const next = find(`tab-${TABS.at((TABS.indexOf(shown) + step) % TABS.length)}`);
  next.focus();
  next.click();
}

/** Show the tab of the URL, now and whenever that changes. */
export function connect(acts) {
  addEventListener("hashchange", () => open(acts));
  find("tabs").addEventListener("keydown", move);
  open(acts);
}
