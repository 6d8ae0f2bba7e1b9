// The commands of the live page, for the hub's own URL and a topic.

import { copyText } from "./clipboard.js";
import { find } from "./page.js";

const URL_PLACE = "http://HOST/events";
const SCRIPT_PLACE = "http://HOST/";
const PATH_PLACE = "/PATH/";

const templates = new Map(
  [...document.querySelectorAll("[data-command]")].map((code) => [code, code.textContent]),
);
const hub = new URL(".", location.href);

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
const plain = (text) => (/^[\w./:-]*$/.test(text) ? text : quoted(text));

/** Write the commands.
 *
 * @param topics what they subscribe to; none: the hub's default.
 * @param topic what they publish to; empty: the hub's default.
 */
export function writeCommands(topics, topic) {
  const query = topics.length ? `?${new URLSearchParams(topics.map((it) => ["topic", it]))}` : "";
  const url = `${hub.href}events`;
  const field = plain(topic) === topic ? `-d topic=${topic}` : `--data-urlencode ${quoted(`topic=${topic}`)}`;
  const written = {
    "curl-subscribe": (text) => text.replace(URL_PLACE, () => plain(url + query)),
    "curl-publish": (text) => text.replace(URL_PLACE, () => (topic ? `${field} ` : "") + plain(url)),
    "app-publish": (text) => (topic ? text.replace(")", () => `, topic=${JSON.stringify(topic)})`) : text),
    snippet: (text) =>
      text
        .replace('/events"', () => `/events${query}"`)
        .replaceAll(SCRIPT_PLACE, () => hub.href)
        .replaceAll(PATH_PLACE, () => hub.pathname),
  };
  for (const [code, text] of templates) {
    const filled = written[code.id]?.(text) ?? text;
    if (code.textContent !== filled) code.textContent = filled;
  }
}

if (find("origin")) find("origin").textContent = location.origin;
for (const button of document.querySelectorAll("[data-copies]")) {
  button.addEventListener("click", async () => {
    const code = find(button.dataset.copies);
    const copied = await copyText(button, code.textContent);
    if (!copied) getSelection().selectAllChildren(code); // for Ctrl-C
  });
}
