/**
 * An EventSource that all tabs of a site share, and that never gives up.
 *
 * ```js
 * import { Tidings } from "/static/tidings.js";
 * const source = new Tidings("/events?topic=news");
 * source.onmessage = (event) => console.log(event.data);
 * source.addEventListener("hub.reset", () => location.reload());
 * ```
 *
 * - One tab leads: it holds a Web Lock and the only connection, and tells the others that opened the
 *   same URL. When it is closed, frozen or kept for the way back, or does not answer, another goes
 *   on at the cursor, which all of them know: nothing is lost, nothing comes twice. (Where there are
 *   no locks, in a page without TLS or in a sandbox, each tab has a connection of its own.)
 * - A tab that has missed something (`last=` or `since=` in the URL, `lastEventId`, the way back)
 *   reads that by a connection of its own, which it closes when it has met the others.
 * - After any failure, a refusal too, it comes back with the cursor: after the server's `retry`
 *   (2 seconds if it says none), doubled at each failure up to 30 s, jittered; after `hub.bye`
 *   exactly when that says; at once when the network is back. Only 204 ends it.
 * - The cursor is sent as `last_event_id` in the query and, within the origin, as the header
 *   Last-Event-ID, so it works with any server of text/event-stream.
 */
export interface Options {
  /** Begin after this event; an application that stored a cursor continues there. */
  lastEventId?: string;
  /**
   * Share the connection with the tabs that opened the same URL. A text shares it only with those
   * that gave the same text, such as the name of who is logged in: give it where a cookie of the
   * site says that. On by default, but off with `token` or `credentials: "include"`: the next tab
   * may be another user's, who would see what is private to this one.
   */
  share?: boolean | string;
  /**
   * Milliseconds without a byte after which a link is dead, 45,000 by default: three heartbeats of
   * the hub. Only asked where a server has heartbeats.
   */
  silence?: number;
  /**
   * Return a token, sent as `Authorization: Bearer`. Called before each connection, and at
   * `hub.expiring`: with another token the stream goes on where it was.
   */
  token?: () => Promise<string | undefined>;
  /** What else `fetch` takes: `credentials: "include"` sends cookies to another origin. */
  credentials?: RequestCredentials;
}

/** Why there is no connection: `event.data` of `error`. */
export interface Failure {
  /** The status, where there was an answer that is no stream. */
  status?: number;
  /** What was wrong, in words: of a problem document (RFC 9457), or of the browser. */
  detail?: string;
  /** How to mend it, in the hub's words. */
  remedy?: string;
  /** The server ended the stream with `hub.bye`. */
  bye?: boolean;
}

export class Tidings extends EventTarget {
  constructor(url: string | URL, options?: Options);
  readonly url: string;
  /** 0 connecting, 1 open, 2 closed. */
  readonly readyState: 0 | 1 | 2;
  /** The cursor. */
  readonly lastEventId: string;
  onopen: ((event: MessageEvent) => unknown) | null | undefined;
  /** Published events without a type; those with one, and `hub.*`, come to their listeners. */
  onmessage: ((event: MessageEvent<string>) => unknown) | null | undefined;
  onerror: ((event: MessageEvent<Failure>) => unknown) | null | undefined;
  addEventListener(
    type: string,
    listener: ((event: MessageEvent) => unknown) | { handleEvent(event: MessageEvent): unknown } | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** End it in this tab. */
  close(): void;
}
