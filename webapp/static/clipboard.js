// Copy a text, and say so on the button.

import { announce } from "./page.js";

/** Copy a text, and return whether that was possible. For two seconds the button says it. */
export async function copyText(button, text) {
  button.dataset.words ??= button.textContent;
  const copied = navigator.clipboard
    ? await navigator.clipboard.writeText(text).then(
        () => true,
        () => false,
      )
    : copyBySelection(text);
  const words = copied ? "Copied" : "Not copied: the browser refuses it";
  button.textContent = words;
  announce(words);
  setTimeout(() => (button.textContent = button.dataset.words), 2000);
  return copied;
}

// Without TLS a page has no clipboard but on localhost.
function copyBySelection(text) {
  const field = document.createElement("textarea");
  field.value = text;
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  return copied;
}
