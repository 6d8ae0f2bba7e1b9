// JSON for people: where it is wrong, and a coloured view of it.

import { element } from "./dom.js";

const MAX_VIEW_CHARS = 100_000;
const MAX_COLOURED = 3000; // elements of one view
const STRING = /"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y;
const SCALAR = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;
const SPACE = /[ \t\r\n]*/y;
const TOKEN = /("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[\d.eE+-]*|\b(?:true|false|null)\b/g;

/** Return the value of a JSON object or list; undefined: the text is none. */
function parsed(text) {
  if (!/^\s*[{[]/.test(text)) return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Return where a text stops to be JSON, and what is expected there. */
export function problem(text) {
  let at = 0;
  const take = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at = pattern.lastIndex;
    return found;
  };
  const skip = (char) => {
    take(SPACE);
    if (text[at] !== char) return false;
    at += 1;
    take(SPACE);
    return true;
  };
  const need = (done, expected) => {
    if (!done) throw expected;
  };
  const list = (end, item) => {
    if (skip(end)) return;
    do item();
    while (skip(","));
    need(skip(end), `“,” or “${end}”`);
  };
  const member = () => {
    need(take(STRING), "a name in double quotes");
    need(skip(":"), "“:”");
    value();
  };
  const value = () => {
    if (skip("{")) list("}", member);
    else if (skip("[")) list("]", value);
    else need(take(STRING) ?? take(SCALAR), "a value");
  };
  try {
    value();
    take(SPACE);
    need(at === text.length, "the end");
  } catch (expected) {
    const lines = text.slice(0, at).split("\n");
    const words = typeof expected === "string" ? expected : "fewer levels";
    return { at, line: lines.length, column: lines.at(-1).length + 1, expected: words };
  }
  return undefined;
}

function* coloured(text) {
  let at = 0;
  let count = 0;
  for (const found of text.matchAll(TOKEN)) {
    if (++count > MAX_COLOURED) break;
    const [token, string, colon] = found;
    const kind = colon ? "key" : string ? "string" : "scalar";
    yield text.slice(at, found.index);
    yield element("span", { class: kind }, string ?? token);
    at = found.index + (string ?? token).length;
  }
  yield text.slice(at);
}

/** Return the nodes that show a text: JSON with indents and colours, other text as it is. */
export function view(text) {
  const value = text.length > MAX_VIEW_CHARS ? undefined : parsed(text);
  if (value !== undefined) return [...coloured(JSON.stringify(value, null, 2))];
  const hidden = text.length - MAX_VIEW_CHARS;
  const more = `\n… ${hidden.toLocaleString()} more characters: copy the data to see them`;
  return [text.slice(0, MAX_VIEW_CHARS) + (hidden > 0 ? more : "")];
}
