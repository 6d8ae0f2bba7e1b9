// The pages of a long list: each begins after the last item of the one before.

import { find } from "../page.js";

/** Connect two buttons. `act` is called when another page is wanted. */
export function pages(backId, nextId, act) {
  let starts = [""]; // of the pages up to this one
  let next;

  find(backId).addEventListener("click", () => {
    starts.pop();
    act();
  });
  find(nextId).addEventListener("click", () => {
    starts.push(next);
    act();
  });
  return {
    /** Where this page begins: after this item; empty: at the first one. */
    get after() {
      return starts.at(-1);
    },
    /** Begin with the first page. */
    reset() {
      starts = [""];
    },
    /** Say what the last item of this page is, and whether there are more. */
    show(last, more) {
      next = last;
      find(backId).disabled = starts.length === 1;
      find(nextId).disabled = !more;
      find(backId).parentElement.hidden = starts.length === 1 && !more;
    },
  };
}
