// What the live page and the console share: the token, requests, words for screen readers.

const TOKEN_KEY = "tidings token"; // in the tab's session storage, and never in a URL

export const find = (id) => document.getElementById(id);

// -- the token

export const token = () => sessionStorage.getItem(TOKEN_KEY) ?? "";

/** Keep a token for the tab's later requests; an empty one means none. */
export const keepToken = (text) => sessionStorage.setItem(TOKEN_KEY, text);

/** Return the claims of a token; undefined: it is no JWT. */
export function claimsOf(text) {
  try {
    const base64 = text.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
    const claims = JSON.parse(new TextDecoder().decode(bytes));
    return claims && typeof claims === "object" ? claims : undefined;
  } catch {
    return undefined;
  }
}

/** Return the lists of topic patterns that claims have. */
export function listsOf(claims) {
  const mercure = claims?.mercure ?? claims?.["https://mercure.rocks/"];
  const list = (it) => (Array.isArray(it) ? it.filter((text) => typeof text === "string") : []);
  return { publish: list(mercure?.publish), subscribe: list(mercure?.subscribe) };
}

const withToken = (headers = {}) =>
  token() ? { ...headers, Authorization: `Bearer ${token()}` } : headers;

/** Return whether a token, or another one, may help against a refusal. */
export const mayNeedToken = ({ status }) => status === 401 || status === 403;

/** Show the form for a token. It says `reason` if the request had no token, else the hub's error. */
export function askForToken(reason, error) {
  const wasHidden = find("token").hidden;
  find("token-why").textContent = error.status === 401 && !token() ? reason : error.message;
  find("token").hidden = false;
  if (wasHidden) find("token-field").focus();
}

/** Call `act` whenever the user has given a token. */
export function onToken(act) {
  find("token").addEventListener("submit", (event) => {
    event.preventDefault();
    keepToken(find("token-field").value.trim());
    find("token").hidden = true;
    act();
  });
}

// -- requests

/** Return what the hub said to a refusal: what was wrong, and how to fix it. */
export const refusalText = ({ status, detail, remedy = "" }) =>
  detail ? `${detail} ${remedy}` : `The hub answered ${status}.`;

/** Return the hub's response. A refusal throws an Error with the hub's words and its status. */
export async function ask(path, init = {}) {
  const response = await fetch(path, { ...init, headers: withToken(init.headers) }).catch(() => {
    throw Error("The hub cannot be reached. Try again when it runs.");
  });
  if (response.ok) return response;
  const { status } = response;
  const problem = await response.json().catch(() => ({}));
  throw Object.assign(Error(refusalText({ ...problem, status })), { status });
}

/** Publish an event. Fields without a value are left out, except for `data`. */
export function publish(fields) {
  const filled = Object.entries(fields).filter(([name, value]) => value || name === "data");
  return ask("events", { method: "POST", body: new URLSearchParams(filled) });
}

// -- the user

/** Let screen readers read some words once. */
export function announce(words) {
  find("announcement").textContent = "";
  setTimeout(() => (find("announcement").textContent = words), 50);
}
