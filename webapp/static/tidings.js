// An EventSource that all tabs of a site share and that never gives up: see tidings.d.ts. It reads
// with fetch, as an EventSource shows no heartbeat or status and sends no header. One tab holds a
// Web Lock and the connection, and tells the others by BroadcastChannel (a SharedWorker cannot come
// from another origin).

export class Tidings extends EventTarget {
  constructor(url, options = {}) {
    super();
    const { lastEventId = "", silence = 45000, token, ...init } = options;
    const { share = !token && init.credentials !== "include" } = init;
    const { href, origin } = new URL(url, document.baseURI);
    let name = share && navigator.locks && `tidings ${share} ${href}`;
    let stay, channel, leading, pending, settling, unanswered, link, heard, beats, hurry;
    let leader = 0; // each has a higher number
    let recent = new Set(); // ids
    let doubles = new Set();
    let retry = 2000;
    let fails = 0;

    const emit = (type, about) => this.dispatchEvent(new MessageEvent(type, about));

    const cut = () => {
      clearTimeout(settling);
      link?.abort();
      link = undefined;
      hurry?.();
    };

    const leave = () => {
      stay?.abort();
      channel?.close();
      stay = channel = leading = pending = undefined;
      cut();
    };

    const join = async (how = { ifAvailable: true }) => {
      if (stay || this.readyState === 2) return;
      const { signal } = (stay = new AbortController());
      const stays = () => !signal.aborted;
      if (!name) return stream(stays);
      const lead = (lock) => {
        if (!lock) return;
        leading = true;
        pending = undefined;
        follow(Math.max(Date.now(), leader + 1));
        return stream(stays);
      };
      try {
        unanswered = 0;
        if (this.lastEventId || /[?&](last|since)/.test(href)) {
          pending = new Map();
          recent = new Set();
        }
        channel = new BroadcastChannel(name);
        channel.onmessage = ({ data }) => hear(data);
        await navigator.locks.request(name, how, lead);
        await stream(() => stays() && pending);
        channel?.postMessage(0); // who leads?
        await navigator.locks.request(name, { signal }, lead);
      } catch (error) {
        if (!stays()) return;
        if (error.name !== "AbortError") name = ""; // no locks here
        rejoin();
      }
    };

    const rejoin = (how) => {
      leave();
      join(how);
    };

    // What the one before told may be told again.
    const follow = (next) => {
      leader = next;
      doubles = new Set(recent);
    };

    const hear = (told) => {
      if (!told) return leading && tell();
      if (told.leader < leader) return; // it was replaced
      if (told.leader > leader) {
        if (leading) return rejoin();
        follow(told.leader);
      }
      unanswered = 0;
      if (!pending) {
        this.lastEventId ||= told.lastEventId;
        if (told.readyState !== this.readyState) show(told.readyState, told.error);
      }
      for (const message of told.messages) {
        if (!pending) take([message]);
        else if (recent.has(message.id)) caughtUp(pending.clear());
        else if (message.id) pending.set(message.id, message);
        if (pending?.size > 1000) pending.clear();
      }
    };

    const tell = (messages = [], error) => {
      const { lastEventId, readyState } = this;
      channel?.postMessage({ leader, lastEventId, readyState, messages, error });
    };

    const take = (messages) => {
      for (const { type, data, id } of messages) {
        if (this.readyState === 2) return;
        if (!type.startsWith("hub.") && doubles.delete(id)) continue;
        if (id !== undefined) {
          recent.delete(id);
          recent.add((this.lastEventId = id));
          if (recent.size > 1000) recent.delete(recent.values().next().value);
        }
        if (data !== undefined) emit(type, { data, origin, lastEventId: this.lastEventId });
        if (pending?.has(id)) return caughtUp(id);
      }
    };

    const caughtUp = (id) => {
      const later = [...pending.values()];
      pending = undefined;
      cut();
      follow(leader);
      take(later.slice(later.findIndex((message) => message.id === id) + 1));
    };

    const settle = () => {
      clearTimeout(settling);
      settling = setTimeout(() => pending?.size === 0 && caughtUp(), 2000);
    };

    const show = (readyState, error) => {
      this.readyState = readyState;
      if (leading) tell([], error);
      if (readyState) emit("open");
      else if (error) emit("error", { data: error });
    };

    const stream = async (going) => {
      while (going()) {
        const mine = (link = new AbortController());
        const end = await read(mine).catch((error) => ({ detail: error.message }));
        if (!going()) return;
        link = clearTimeout(settling);
        show(0, end);
        if (end.status === 204) return this.close(); // as an EventSource takes it
        if (mine.signal.aborted) continue;
        const backoff = Math.min(30000, retry * 2 ** fails++) * (0.5 + Math.random());
        await new Promise((done) => {
          hurry = done;
          setTimeout(done, end.bye ? retry : backoff);
        });
      }
    };

    const read = async (mine) => {
      const { signal } = mine;
      const target = new URL(href);
      const headers = { Accept: "text/event-stream" };
      if (token) headers.Authorization = `Bearer ${await token()}`;
      const { lastEventId } = this;
      if (lastEventId) {
        target.searchParams.set("last_event_id", lastEventId);
        // Elsewhere it costs a preflight.
        if (origin === location.origin) headers["Last-Event-ID"] = lastEventId;
      }
      heard = Date.now();
      const answer = await fetch(target, { cache: "no-store", ...init, headers, signal });
      const { status, body } = answer;
      if (status !== 200 || !/^text\/event-stream/.test(answer.headers.get("Content-Type"))) {
        return { status, ...(await answer.json().catch(() => {})) };
      }
      show(1);
      settle();
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      let cr, type, data, id, bye;
      for (;;) {
        const { done, value: text } = await reader.read();
        if (done) return { bye };
        signal.throwIfAborted();
        heard = Date.now();
        const messages = [];
        const lines = text.slice(cr && text[0] === "\n").split(/\r\n?|\n/);
        cr = text.endsWith("\r");
        lines[0] = rest + lines[0];
        rest = lines.pop();
        for (const line of lines) {
          const [, name, value] = /^([^:]*):? ?(.*)$/s.exec(line);
          if (!line && (data ?? id) !== undefined) {
            messages.push({ type: type || "message", data, id });
            beats ||= /^hub\./.test(type);
            bye = type === "hub.bye";
            if (!bye) fails = 0;
            if (type === "hub.expiring" && token) {
              setTimeout(() => mine.abort(), JSON.parse(data).expires * 500 - Date.now() / 2);
            }
          }
          if (!line) type = data = id = undefined;
          else if (!name) beats = true;
          else if (name === "data") data = data === undefined ? value : `${data}\n${value}`;
          else if (name === "event") type = value;
          else if (name === "id" && !value.includes("\0")) id = value;
          else if (name === "retry" && /^\d+$/.test(value)) retry = +value;
        }
        if (leading) tell(messages);
        take(messages);
        if (messages[0]) settle();
      }
    };

    const tick = () => {
      if (link) {
        if (beats && Date.now() - heard > silence) link.abort();
      } else if (channel && !leading && !document.hidden) {
        if (++unanswered > 1) channel.postMessage(0);
        if (unanswered < 4) return;
        rejoin({ steal: true }); // from a leader that is suspended
      }
    };

    const timer = setInterval(tick, silence / 4);
    const closed = new AbortController();
    const on = (target, type, act) => target.addEventListener(type, act, closed);
    for (const type of ["open", "message", "error"]) {
      on(this, type, (event) => this["on" + type]?.(event));
    }
    // A page kept for the way back must hold nothing.
    on(window, "pagehide", leave);
    on(window, "pageshow", () => join());
    on(window, "online", cut);
    const close = () => {
      this.readyState = 2;
      clearInterval(timer);
      closed.abort();
      leave();
    };
    Object.assign(this, { url: href, readyState: 0, lastEventId, close });
    join();
  }
}
