// Ask before something that cannot be undone.

import { find } from "../page.js";

const dialog = find("confirm");

/** Return whether the user confirms. `verb` is on the button that does it. */
export function confirmed(question, consequence, verb) {
  find("confirm-question").textContent = question;
  find("confirm-consequence").textContent = consequence;
  find("confirm-do").textContent = verb;
  dialog.returnValue = "";
  dialog.showModal();
  find("confirm-not").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "do"), { once: true });
  });
}

find("confirm-do").addEventListener("click", () => dialog.close("do"));
find("confirm-not").addEventListener("click", () => dialog.close());
