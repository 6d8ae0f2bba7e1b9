/**
 * An EventSource that the tabs of an origin share, and that never gives up.
 *
 * ```js
 * import { Tidings } from "/static/tidings.js";
 * const source = new Tidings("/events?topic=news");
 * source.onmessage = (event) => console.log(event.data);
 * source.addEventListener("hub.reset", () => location.reload());
 * ```
 *
 * - Tabs that open the same URL share one connection. When the tab that holds it is closed, frozen or
 *   suspended, another tab connects from the last event id. No event is lost or delivered twice.
 *   Without Web Locks (a page without TLS, or in a sandbox) each tab has its own connection.
 * - After any failure, refusals included, it reconnects from the last event id: after the server's `retry`
 *   (2 seconds by default), doubled at each failure up to 30 s, with jitter; after `hub.bye`, exactly
 *   after `retry`; at once when the network is back.
 * - It stops when all its topics have ended: after `hub.bye` with the reason `ended`, and after status 204.
 *   It is closed then, and an `ended` event follows.
 * - `latest=1` in the URL begins with the newest event of each topic. Until all of these have arrived, a
 *   reconnection begins with them again. After a `hub.reset` they follow, so the page need not reload.
 * - It is open when the first event other than `hub.bye`, or the first comment, has arrived. A server that
 *   sends neither counts as open after a second.
 * - The last event id is sent as `last_event_id` in the query and, to the same origin, as the header
 *   Last-Event-ID, so it works with any server of text/event-stream. `control=1` in the query asks a
 *   hub for its `hub.*` events.
 * - It also works in workers: dedicated, shared and service workers. Node can import it, and without
 *   a page it needs an absolute URL.
 */

/*
 * How it works. `fetch` reads the stream, because an EventSource shows neither heartbeats nor the
 * status of a refusal, and cannot send a token. Tabs communicate by BroadcastChannel (a SharedWorker
 * cannot come from another origin).
 *
 *   join ─┬─ the lock is free ────────────────────────────────────► leader
 *         └─ another tab has it ─► catching up ─► follower ─────────┘
 *                                                 when the lock is free, or stolen
 *
 * `close` and `pagehide` leave from any state, and `pageshow` joins again.
 *
 * - The leader holds the Web Lock and the connection. It posts a report after each read and each
 *   change of state. `0` on the channel asks for a report. Each leader has a higher term than the one
 *   before; a leader that sees a higher term was replaced, and joins again.
 * - A tab that has a cursor, `latest`, `last` or `since` first catches up on a stream of its own. Meanwhile it
 *   keeps the leader's events as pending. When it has met an event on both ways, or when the leader
 *   sent nothing for 2 seconds, it closes its stream and delivers the pending events after that one.
 * - A new leader connects from the last event id that it knows, so it may send again what another
 *   tab has already received. At each new term a tab skips its 1,000 most recent events once.
 * - A follower that gets no report asks for one. After four checks without it, it steals the lock.
 */
export interface Options {
  /** Start after this event: an application that stored an event id continues there. */
  lastEventId?: string;
  /**
   * Share the connection with tabs that opened the same URL. With a text, share it only with tabs
   * that gave the same text, such as the user's name: give one if a cookie says who the user is.
   * On by default. Off by default with `token` or `credentials: "include"`, because another tab
   * may belong to another user, who would receive this user's private events.
   */
  share?: boolean | string;
  /**
   * Reconnect after this many milliseconds without a byte. By default after three heartbeats, which
   * the hub announces in `hub.open`, but at least 5,000; 45,000 without an announcement. Ignored if
   * the server sends no heartbeats.
   */
  silence?: number;
  /**
   * Return a token, which is sent as `Authorization: Bearer`; without one nothing is sent. Called
   * before each connection. After `hub.expiring` it is called when half of the token's time is over,
   * by the hub's clock, and again later if it returns the same token. With another token it connects
   * again, from the last event id.
   */
  token?: () => Promise<string | null | undefined> | string | null | undefined;
  /** As for `fetch`, as are all other options: `"include"` sends cookies to another origin. */
  credentials?: RequestCredentials;
}

/** Why there is no connection: the `data` of an `error` event. */
export interface Failure {
  /** The HTTP status, if the server answered without a stream. */
  status?: number;
  /** What was wrong: from the hub's problem document (RFC 9457), the browser, or a wrong Content-Type. */
  detail?: string;
  /** How to fix it, from the hub's problem document. */
  remedy?: string;
  /** The server ended the stream with `hub.bye`. */
  bye?: boolean;
}

export class Tidings extends EventTarget {
  constructor(url: string | URL, options?: Options);
  readonly url: string;
  /** 0 connecting, 1 open, 2 closed. */
  readonly readyState: 0 | 1 | 2;
  /** The id of the last event: where the next connection continues. */
  readonly lastEventId: string;
  onopen: ((event: MessageEvent) => unknown) | null | undefined;
  /**
   * For published events without a type. Use `addEventListener` for a type, and for `hub.*`. Events
   * published with the type `open`, `error` or `ended` have the type `event:open`, `event:error` or
   * `event:ended` here.
   */
  onmessage: ((event: MessageEvent<string>) => unknown) | null | undefined;
  onerror: ((event: MessageEvent<Failure>) => unknown) | null | undefined;
  /** All topics have ended: nothing more comes, and the source is closed. */
  onended: ((event: MessageEvent) => unknown) | null | undefined;
  addEventListener(
    type: string,
    listener: ((event: MessageEvent) => unknown) | { handleEvent(event: MessageEvent): unknown } | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  /** Close the source in this tab. */
  close(): void;
}
