// An EventSource that tabs share and that never gives up: see tidings.d.ts.

export class Tidings extends EventTarget {
  #options;
  #closing = new AbortController();
  #request;
  #hasHeartbeats;
  #lastByteTime;
  #retry = 2000; // ms
  #failures = 0;
  #endPause;
  #lockName;
  #session;
  #channel;
  #isLeader;
  #term = 0; // each leader's is higher
  #silentTicks;
  #recentIds = new Set();
  #repeatableIds = new Set();
  #pending; // by id
  #settleTimer;

  constructor(url, options = {}) {
    super();
    const { lastEventId = "", silence = 45000, token, ...init } = options;
    const { share = !token && init.credentials !== "include" } = init;
    const { href, origin } = new URL(url, document.baseURI);
    this.url = href;
    this.readyState = 0;
    this.lastEventId = lastEventId;
    this.#options = { silence, token, init, origin };
    this.#lockName = share && navigator.locks && `Tidings ${share} ${href}`;
    for (const type of ["open", "message", "error"]) {
      this.addEventListener(type, (event) => this["on" + type]?.(event));
    }
    // A page in the back/forward cache must hold nothing.
    addEventListener("pagehide", () => this.#leave(), this.#closing);
    addEventListener("pageshow", () => this.#session ?? this.#join(), this.#closing);
    addEventListener("online", () => this.#disconnect(), this.#closing);
    this.#tick();
    this.#join();
  }

  close = () => {
    this.readyState = 2;
    this.#closing.abort();
    this.#leave();
  };

  #setState(readyState, error) {
    this.readyState = readyState;
    this.#report([], error);
    if (readyState) this.dispatchEvent(new MessageEvent("open"));
    else if (error) this.dispatchEvent(new MessageEvent("error", { data: error }));
  }

  #tick() {
    if (this.readyState === 2) return;
    const { silence } = this.#options;
    setTimeout(() => this.#tick(), silence / 4);
    if (this.#request) {
      if (this.#hasHeartbeats && Date.now() - this.#lastByteTime > silence) this.#request.abort();
    } else if (this.#channel && !this.#isLeader && !document.hidden) {
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
      this.#setState(0, end);
      if (end.status === 204) return this.close(); // as an EventSource does
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
    const { token, init, origin } = this.#options;
    const url = new URL(this.url);
    const headers = { Accept: "text/event-stream" };
    if (token) headers.Authorization = `Bearer ${await token()}`;
    const { lastEventId } = this;
    if (lastEventId) {
      url.searchParams.set("last_event_id", lastEventId);
      // To another origin it costs a preflight.
      if (origin === location.origin) headers["Last-Event-ID"] = lastEventId;
    }
    this.#lastByteTime = Date.now();
    const { signal } = request;
    const response = await fetch(url, { cache: "no-store", ...init, headers, signal });
    if (response.status !== 200 || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      return { status: response.status, ...(await response.json().catch(() => {})) };
    }
    this.#setState(1);
    this.#settle();
    return this.#read(response.body, request);
  }

  async #read(body, request) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    const parts = { rest: "" };
    let bye;
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return { bye };
      request.signal.throwIfAborted();
      this.#lastByteTime = Date.now();
      const events = this.#parse(value, parts);
      for (const { type, data } of events) {
        this.#hasHeartbeats ||= type.startsWith("hub.");
        bye = type === "hub.bye";
        if (!bye) this.#failures = 0;
        if (type === "hub.expiring" && this.#options.token) {
          setTimeout(() => request.abort(), JSON.parse(data).expires * 500 - Date.now() / 2);
        }
      }
      this.#report(events);
      this.#deliver(events);
      if (events[0]) this.#settle();
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
      } else if (!name) this.#hasHeartbeats = true;
      else if (name === "data") parts.data = (parts.data ?? "") + "\n" + value;
      else if (name === "event") parts.type = value;
      else if (name === "id" && !value.includes("\0")) parts.id = value;
      else if (name === "retry" && /^\d+$/.test(value)) this.#retry = +value;
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
      if (data !== undefined) this.dispatchEvent(new MessageEvent(type, init));
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
      if (this.lastEventId || /[?&](last|since)/.test(this.url)) {
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
      else if (event.id) this.#pending.set(event.id, event);
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
