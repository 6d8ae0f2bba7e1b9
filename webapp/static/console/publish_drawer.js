// Publish an event: the form, what is wrong with its JSON, and the same as a command.

import { copyText } from "../clipboard.js";
import { ask, find, mayNeedToken, token } from "../page.js";
import { element } from "./dom.js";
import { mayPublish } from "./grants.js";
import { problem } from "./json.js";
import { open as openToken } from "./token_dialog.js";

const drawer = find("publish-drawer");
const form = find("publish");
let opener;
let otherTopics = []; // of the event that is published again

const quoted = (text) =>
  /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

/** Open the drawer, empty or with the fields of an event. */
export function open(event) {
  opener = document.activeElement;
  if (event) fill(event);
  drawer.show();
  check();
  form.elements[event ? "data" : "topic"].focus();
}

function fill({ topic, topics, type, data, private: isPrivate }) {
  form.reset();
  otherTopics = topics.slice(1);
  const values = { topic, type: type ?? "", data };
  for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
  if (form.elements.private) form.elements.private.checked = isPrivate;
}

function close() {
  drawer.close();
  opener?.focus();
}

/** Return the filled fields. The topics of an event that is published again are all there. */
function fields() {
  const filled = [...new FormData(form)].filter(([name, value]) => value || name === "data");
  const at = filled.findIndex(([name]) => name === "topic");
  filled.splice(at + 1, 0, ...otherTopics.map((topic) => ["topic", topic]));
  return filled;
}

function check() {
  const text = form.elements.data.value;
  const found = /^\s*[{[]/.test(text) ? problem(text) : undefined;
  const isJson = /^\s*[{[]/.test(text) && !found;
  find("json-check").textContent = found
    ? `Not JSON: line ${found.line}, column ${found.column}: ${found.expected} is missing. It is published as text.`
    : isJson
      ? "Valid JSON."
      : "";
  find("json-check").classList.toggle("wait", Boolean(found));
  find("other-topics").textContent = otherTopics.length ? `Also to ${otherTopics.join(", ")}` : "";
  const topic = form.elements.topic.value || "events";
  find("publish-denied").textContent = mayPublish(topic)
    ? ""
    : `The token does not grant publishing to ${topic}.`;
  find("curl").textContent = command();
}

function command() {
  const parts = fields().map(([name, value]) =>
    name === "data" || /[^\w./:-]/.test(value)
      ? `--data-urlencode ${quoted(`${name}=${value}`)}`
      : `-d ${quoted(`${name}=${value}`)}`,
  );
  const header = token() || form.elements.private ? ['-H "Authorization: Bearer $TOKEN"'] : [];
  return ["curl", ...header, ...parts, quoted(new URL("events", location.href).href)].join(
    " \\\n  ",
  );
}

async function submit(event) {
  event.preventDefault();
  find("publish-error").replaceChildren();
  find("published").textContent = "";
  try {
    const response = await ask("events", { method: "POST", body: new URLSearchParams(fields()) });
    find("published").textContent = `Published with the id ${await response.text()}`;
  } catch (error) {
    find("publish-error").append(error.message);
    if (mayNeedToken(error) && form.elements.private) {
      find("publish-error").append(
        " ",
        element("button", { type: "button", click: () => openToken() }, "Use a token"),
      );
    }
  }
}

export function connect() {
  find("open-publish").addEventListener("click", () => open());
  find("close-publish").addEventListener("click", close);
  find("copy-curl").addEventListener("click", ({ target }) =>
    copyText(target, find("curl").textContent),
  );
  find("check-json").addEventListener("click", indent);
  form.addEventListener("submit", submit);
  form.addEventListener("input", ({ target }) => {
    if (target.name === "topic") otherTopics = [];
    check();
  });
  drawer.addEventListener("keydown", ({ key }) => key === "Escape" && close());
}

function indent() {
  const { data } = form.elements;
  const found = problem(data.value);
  if (!found) data.value = JSON.stringify(JSON.parse(data.value), null, 2);
  else data.setSelectionRange(found.at, found.at + 1);
  data.focus();
  check();
}
