// What the live page and the console have in common: the token, publishing, copying.

const KEY = "tidings token"; // of this tab, and never in an address

export const find = (id) => document.getElementById(id);

export const token = () => sessionStorage.getItem(KEY) ?? "";

const withToken = (headers = {}) =>
  token() ? { ...headers, Authorization: `Bearer ${token()}` } : headers;

/** May a token help against a refusal. */
export const wantsToken = ({ status }) => status === 401 || status === 403;

/** Ask for a token: in the page's words where there is none, else in the hub's. */
export function askForToken(first, error) {
  const asked = !find("token").hidden;
  find("token-why").textContent = error.status === 401 && !token() ? first : error.message;
  find("token").hidden = false;
  if (!asked) find("token-field").focus();
}

/** What to do with a token when there is one. */
export function onToken(act) {
  find("token").addEventListener("submit", (event) => {
    event.preventDefault();
    sessionStorage.setItem(KEY, find("token-field").value.trim());
    find("token").hidden = true;
    act();
  });
}

/** Ask the hub, and return its answer; what it refuses is an Error with the status and its words. */
export async function ask(path, init = {}) {
  const answer = await fetch(path, { ...init, headers: withToken(init.headers) }).catch(() => {
    throw Error("The hub cannot be reached. Try again when it is back.");
  });
  if (answer.ok) return answer;
  const { detail, remedy } = await answer.json().catch(() => ({}));
  const words = detail ? `${detail} ${remedy ?? ""}` : `The hub answered ${answer.status}.`;
  throw Object.assign(Error(words), { status: answer.status });
}

/** Publish fields of a form; a field without a value is left out. */
export function publish(fields) {
  const filled = Object.entries(fields).filter(([name, value]) => value || name === "data");
  return ask("events", { method: "POST", body: new URLSearchParams(filled) });
}

/** Say it to a screen reader, once. */
export function announce(words) {
  find("said").textContent = "";
  setTimeout(() => (find("said").textContent = words), 50);
}

/** Copy the text of the element that a button names, and say so. */
export async function copy(button) {
  const code = find(button.dataset.copies);
  getSelection().selectAllChildren(code); // where the clipboard is refused, a key does it
  const done = navigator.clipboard
    ? await navigator.clipboard.writeText(code.textContent).then(() => true, () => false)
    : document.execCommand("copy");
  const words = done ? "Copied" : "Press Ctrl-C";
  button.textContent = words;
  announce(words);
  setTimeout(() => (button.textContent = "Copy"), 2000);
}
