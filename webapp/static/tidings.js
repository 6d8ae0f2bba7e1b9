// An EventSource that tabs share and that never gives up: see tidings.d.ts.

const { document, location, navigator } = globalThis; // of which a worker or Node lacks some
// Of several Content-Types the last one counts. A parameter may have a comma in quotes.
const EVENT_STREAM = /(?:^|,)\s*text\/event-stream\s*(?:;(?:[^",]|"[^"]*")*)?$/i;
const DEFAULT_SILENCE = 45000; // ms
const OPEN_PAUSE = 1000; // ms

export class Tidings extends EventTarget {
  #options;
  #closing = new AbortController();
  #request;
  #hasHeartbeats;
  #silence;
  #lastByteTime;
  #clockOffset; // from performance.now() to the hub's time, ms
  #token; // of this connection
  #renewedToken; // for the next one
  #retry = 2000; // ms
  #failures = 0;
  #endPause;
  #lockName;
  #session;
  #channel;
  #isLeader;
  #term = 0; // each leader's is higher
  #silentTicks;
  #tickTimer;
  #recentIds = new Set();
  #repeatableIds = new Set();
  #pending; // by id
  #settleTimer;

  constructor(url, options = {}) {
    super();
    const { lastEventId = "", silence, token, ...init } = options;
    const { share = !token && init.credentials !== "include" } = init;
    const { href, origin } = new URL(url, document?.baseURI ?? location?.href);
    this.url = href;
    this.readyState = 0;
    this.lastEventId = lastEventId;
    this.#silence = silence || DEFAULT_SILENCE; // ms
    this.#options = { silence, token, init, origin };
    this.#lockName = share && navigator?.locks && `Tidings ${share} ${href}`;
    for (const type of ["open", "message", "error", "ended"]) {
      this.addEventListener(type, (event) => this["on" + type]?.(event));
    }
    const listen = (type, listener) => globalThis.addEventListener?.(type, listener, this.#closing);
    // A page in the back/forward cache must hold nothing.
    listen("pagehide", () => this.#leave());
    listen("pageshow", () => this.#session ?? this.#join());
    listen("online", () => this.#disconnect());
    this.#tick();
    this.#join();
  }

  close = () => {
    this.readyState = 2;
    this.#closing.abort();
    clearTimeout(this.#tickTimer);
    this.#leave();
  };

  #end() {
    this.close();
    this.dispatchEvent(new MessageEvent("ended"));
  }

  #setState(readyState, error) {
    this.readyState = readyState;
    this.#report([], error);
    if (readyState) this.dispatchEvent(new MessageEvent("open"));
    else if (error) this.dispatchEvent(new MessageEvent("error", { data: error }));
  }

  #tick() {
    const silence = this.#silence;
    this.#tickTimer = setTimeout(() => this.#tick(), Math.min(silence, DEFAULT_SILENCE) / 4);
    if (this.#request) {
      if (this.#hasHeartbeats && Date.now() - this.#lastByteTime > silence) this.#request.abort();
    } else if (this.#channel && !this.#isLeader && !document?.hidden) {
      if (++this.#silentTicks > 1) this.#channel.postMessage(0);
      if (this.#silentTicks > 3) this.#join({ steal: true }); // from a suspended leader
    }
  }

  // -- the connection

  async #streamWhile(isWanted) {
    while (isWanted()) {
      const request = (this.#request = new AbortController());
      const end = await this.#stream(request).catch((error) => ({ detail: error?.message }));
      if (!isWanted()) return;
      const { aborted } = request.signal;
      this.#disconnect();
      if (end.status === 204) return this.#end(); // as an EventSource does
      this.#setState(0, end);
      if (aborted || !isWanted()) continue;
      const backoff = Math.min(30000, this.#retry * 2 ** this.#failures++) * (0.5 + Math.random());
      await new Promise((resolve) => {
        this.#endPause = resolve;
        setTimeout(resolve, end.bye ? this.#retry : backoff);
      });
    }
  }

  #disconnect() {
    clearTimeout(this.#settleTimer);
    this.#request?.abort();
    this.#request = undefined;
    this.#endPause?.();
  }

  async #stream(request) {
    const { init, origin } = this.#options;
    const url = new URL(this.url);
    url.searchParams.set("control", 1);
    const headers = { Accept: "text/event-stream" };
    this.#token = this.#renewedToken ?? (await this.#askToken());
    this.#renewedToken = undefined;
    if (this.#token) headers.Authorization = `Bearer ${this.#token}`;
    const { lastEventId } = this;
    if (lastEventId) {
      url.searchParams.set("last_event_id", lastEventId);
      // To another origin it costs a preflight.
      if (origin === location?.origin) headers["Last-Event-ID"] = lastEventId;
    }
    this.#lastByteTime = Date.now();
    const { signal } = request;
    const response = await fetch(url, { cache: "no-store", ...init, headers, signal });
    const { status } = response;
    if (status !== 200) return { status, ...(await response.json().catch(() => {})) };
    const type = response.headers.get("Content-Type") ?? "missing";
    if (!EVENT_STREAM.test(type)) {
      response.body?.cancel();
      return { status, detail: `The Content-Type is ${type}, not text/event-stream.` };
    }
    this.#settle();
    return this.#read(response.body, request);
  }

  async #read(body, request) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const parts = { rest: "" };
    let bye;
    // A proxy may answer for a hub that is away. Other servers may send nothing for a long time.
    const open = () => {
      if (parts.isOpen || request.signal.aborted) return;
      parts.isOpen = true;
      this.#setState(1);
    };
    setTimeout(open, OPEN_PAUSE);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { bye };
      request.signal.throwIfAborted();
      this.#lastByteTime = Date.now();
      const events = this.#parse(value, parts);
      for (const { type, data } of events) {
        this.#hasHeartbeats ||= type.startsWith("hub.");
        bye = type === "hub.bye";
        if (!bye) {
          this.#failures = 0;
          parts.isAlive = true;
        }
        if (type === "hub.open") this.#learn(JSON.parse(data));
        if (type === "hub.expiring") this.#renewToken(JSON.parse(data), request);
      }
      if (parts.isAlive) open();
      this.#report(events);
      this.#deliver(events);
      if (events[0]) this.#settle();
    }
  }

  #learn({ heartbeat, now = Date.now() }) {
    this.#clockOffset = now - performance.now();
    if (heartbeat && !this.#options.silence) this.#silence = Math.max(5000, heartbeat * 3000);
  }

  async #askToken() {
    return this.#options.token?.();
  }

  // It reconnects only for another token: the application may have stored this one.
  async #renewToken({ expires }, request) {
    while (!request.signal.aborted && this.#token) {
      const left = expires * 1000 - this.#clockOffset - performance.now();
      await new Promise((resolve) => setTimeout(resolve, Math.max(5000, left / 2)));
      const token = !request.signal.aborted && (await this.#askToken().catch(() => {}));
      if (!token || token === this.#token || request.signal.aborted) continue;
      this.#renewedToken = token;
      request.abort();
    }
  }

  #parse(text, parts) {
    const events = [];
    const lines = text.slice(parts.cr && text[0] === "\n").split(/\r\n?|\n/);
    parts.cr = text.endsWith("\r");
    lines[0] = parts.rest + lines[0];
    parts.rest = lines.pop();
    for (const line of lines) {
      const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (!line) {
        const { type, data, id } = parts;
        if ((data ?? id) !== undefined) {
          events.push({ type: type || "message", data: data?.slice(1), id });
        }
        parts.type = parts.data = parts.id = undefined;
      } else if (!name) this.#hasHeartbeats = parts.isAlive = true;
      else if (name === "data") parts.data = (parts.data ?? "") + "\n" + value;
      else if (name === "event") parts.type = value;
      else if (name === "id" && !value.includes("\0")) parts.id = value;
      else if (name === "retry" && /^\d+$/.test(value)) {
        this.#retry = Math.min(Math.max(value, 100), 3600000); // the hub's own bounds
      }
    }
    return events;
  }

  #deliver(events) {
    for (const { type, data, id } of events) {
      if (this.readyState === 2) return;
      if (!type.startsWith("hub.") && this.#repeatableIds.delete(id)) continue;
      if (id !== undefined) {
        this.lastEventId = id;
        this.#recentIds.delete(id);
        this.#recentIds.add(id);
        if (this.#recentIds.size > 1000) {
          this.#recentIds.delete(this.#recentIds.keys().next().value);
        }
      }
      const { lastEventId } = this;
      const init = { data, lastEventId, origin: this.#options.origin };
      // Not to those who listen to the connection.
      const name = /^(open|error|ended)$/.test(type) ? "event:" + type : type;
      if (data !== undefined) this.dispatchEvent(new MessageEvent(name, init));
      if (type === "hub.bye" && JSON.parse(data).reason === "ended") return this.#end();
      if (this.#pending?.has(id)) return this.#caughtUp(id);
    }
  }

  // -- the tabs

  async #join(lockOptions = { ifAvailable: true }) {
    this.#leave();
    const { signal } = (this.#session = new AbortController());
    const isJoined = () => !signal.aborted;
    if (!this.#lockName) return this.#streamWhile(isJoined);
    const lead = (lock) => {
      if (!lock) return;
      this.#isLeader = true;
      this.#pending = undefined;
      this.#startTerm(Math.max(Date.now(), this.#term + 1));
      return this.#streamWhile(isJoined);
    };
    try {
      this.#silentTicks = 0;
      if (this.lastEventId || /[?&](last|latest|since)/.test(this.url)) {
        this.#pending = new Map();
        this.#recentIds.clear();
      }
      this.#channel = new BroadcastChannel(this.#lockName);
      this.#channel.onmessage = ({ data }) => this.#onReport(data);
      await navigator.locks.request(this.#lockName, lockOptions, lead);
      await this.#streamWhile(() => isJoined() && this.#pending);
      this.#channel?.postMessage(0); // asks who leads
      await navigator.locks.request(this.#lockName, { signal }, lead);
    } catch (error) {
      if (signal.aborted) return;
      if (error.name !== "AbortError") this.#lockName = ""; // no locks here
      this.#join();
    }
  }

  #leave() {
    this.#session?.abort();
    this.#channel?.close();
    this.#session = this.#channel = this.#isLeader = this.#pending = undefined;
    this.#disconnect();
  }

  // A new leader may send events again.
  #startTerm(term = this.#term) {
    this.#term = term;
    this.#repeatableIds = new Set(this.#recentIds);
  }

  #report(events, error) {
    if (!this.#isLeader) return;
    const { lastEventId, readyState } = this;
    this.#channel.postMessage({ term: this.#term, lastEventId, readyState, events, error });
  }

  #onReport(report) {
    if (!report) return this.#report([]);
    const { term, lastEventId, readyState, events, error } = report;
    if (term < this.#term) return; // was replaced
    if (term > this.#term) {
      if (this.#isLeader) return this.#join();
      this.#startTerm(term);
    }
    this.#silentTicks = 0;
    if (!this.#pending) {
      this.lastEventId ||= lastEventId;
      if (readyState !== this.readyState) this.#setState(readyState, error);
    }
    for (const event of events) {
      if (!this.#pending) this.#deliver([event]);
      else if (this.#recentIds.has(event.id)) this.#caughtUp(this.#pending.clear());
      else if (event.id && !this.#pending.has(event.id)) this.#pending.set(event.id, event);
      if (this.#pending?.size > 1000) this.#pending.clear();
    }
  }

  // -- catching up, on its own stream

  #settle() {
    clearTimeout(this.#settleTimer);
    this.#settleTimer = setTimeout(() => this.#pending?.size === 0 && this.#caughtUp(), 2000);
  }

  #caughtUp(id) {
    const events = [...this.#pending.values()];
    this.#pending = undefined;
    this.#disconnect();
    this.#startTerm();
    this.#deliver(events.slice(events.findIndex((event) => event.id === id) + 1));
  }
}
