// The token: pasted, decoded, kept in the tab only; and the notice where one is missing.

import { claimsOf, find, keepToken, listsOf, token } from "../page.js";
import { age, clock } from "../units.js";
import { definitions, element } from "./dom.js";
import { grants, suffices, USES } from "./grants.js";

const dialog = find("token-dialog");
const field = find("token-field");

/** Return what stands where a refused request has left nothing: why, and a button to the dialog. */
export function lockedNotice({ status, message }, what) {
  const why = status === 401 && !token() ? `${what} need a token.` : message;
  const button = element(
    "button",
    { type: "button", click: () => open() },
    token() ? "Use another token" : "Use a token",
  );
  return [element("p", {}, why), ...(status === 401 || status === 403 ? [button] : [])];
}

export function open() {
  field.value = token();
  decode();
  dialog.showModal();
  field.select();
}

const given = () => field.value.trim().replace(/^Bearer\s+/i, "");

/** Return why a text cannot be used as a token; empty: it may be one. */
function problemOf(text, claims) {
  if (text && text.split(".").length !== 3)
    return "This is not a token (three parts with dots). Is it the key? Do not paste the key here.";
  return text && !claims ? "This is not a token: its second part has no claims in JSON." : "";
}

/** Return why the hub refuses a token now, by its own claims; empty: it does not. */
function refusalOf({ exp, nbf }) {
  if (exp * 1000 <= Date.now()) return "The token has expired. The hub refuses it.";
  return nbf * 1000 > Date.now() ? "The token is not valid yet. The hub refuses it." : "";
}

function decode() {
  const text = given();
  const claims = text.split(".").length === 3 ? claimsOf(text) : undefined;
  const problem = problemOf(text, claims);
  find("forget-token").hidden = !token();
  find("use-token").disabled = problem !== "";
  find("token-heading").hidden = !claims;
  find("token-claims").replaceChildren(...(claims ? described(claims) : []));
  find("token-grants").replaceChildren(...(claims ? uses(claims) : []));
  find("token-problem").textContent = claims ? refusalOf(claims) : problem;
}

function described({ sub, iat, nbf, exp, aud, iss, mercure, ...others }) {
  const { publish, subscribe } = listsOf({ mercure, ...others });
  const isOver = exp * 1000 <= Date.now();
  return definitions(
    [
      [
        "Expires",
        exp === undefined ? "never" : element("span", { class: isOver && "error" }, until(exp)),
      ],
      ["Subject", sub],
      ["Publish", publish.join("\n") || "nothing"],
      ["Subscribe", subscribe.join("\n") || "public events only"],
      ["Payload", mercure?.payload === undefined ? "" : JSON.stringify(mercure.payload)],
      ["Made", iat && clock(iat * 1000)],
      ["Valid from", nbf && clock(nbf * 1000)],
      ["Audience", aud && [aud].flat().join(", ")],
      ["Issuer", iss],
    ].map(([name, value]) => [name, typeof value === "number" ? String(value) : value]),
  );
}

function until(seconds) {
  const left = seconds - Date.now() / 1000;
  return `${clock(seconds * 1000)}, ${left < 0 ? `expired ${age(-left)} ago` : `in ${age(left)}`}`;
}

function uses(claims) {
  const lists = refusalOf(claims) ? { subscribe: [], publish: [] } : listsOf(claims);
  return USES.map((use) => {
    const can = suffices(lists, use);
    const words = can ? "" : element("span", { class: "quiet" }, missingWords(claims, lists, use));
    return element(
      "li",
      { class: can ? "can" : "cannot" },
      `${can ? "May" : "May not"} ${use.name}`,
      words,
    );
  });
}

/** Return which grants a use still needs. A token that the hub refuses needs none, but a successor. */
function missingWords(claims, lists, use) {
  if (refusalOf(claims)) return "";
  const parts = ["subscribe", "publish"].map((kind) => {
    const paths = (use[kind] ?? []).filter((path) => !grants(lists[kind], path));
    return paths.length ? `${kind} of ${paths.join(", ")}` : "";
  });
  return `: needs ${parts.filter(Boolean).join(" and ")}`;
}

/** Connect the dialog. `act` is called when the tab has another token. */
export function connect(act) {
  const use = (text) => {
    keepToken(text);
    dialog.close();
    act();
  };
  field.addEventListener("input", decode);
  find("token").addEventListener("submit", (event) => {
    event.preventDefault();
    if (!find("use-token").disabled) use(given());
  });
  find("forget-token").addEventListener("click", () => use(""));
  find("close-token").addEventListener("click", () => dialog.close());
  find("open-token")?.addEventListener("click", open);
}
