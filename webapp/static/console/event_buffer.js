// The events that the console has: which of them are shown, and which wait while it is paused.

const MAX_EVENTS = 5000;
const MAX_CHARS = 20_000_000;
const MAX_TYPES = 100;

/**
 * Return a buffer that keeps the newest events; the oldest leave it first.
 *
 * While it is paused, new events wait beside it and nothing that it has leaves.
 */
export class EventBuffer {
  #events = [];
  #waiting = [];
  #chars = 0;
  received = 0;
  isPaused = false;
  newCount = 0; // of the events that came in the pause
  types = new Set(); // the first MAX_TYPES

  /** Take an event. Return whether it belongs to those that are shown. */
  add(event) {
    if (!event.notice) this.received += 1;
    if (event.type && this.types.size < MAX_TYPES) this.types.add(event.type);
    if (this.isPaused) {
      if (!event.notice) this.newCount += 1;
      this.#waiting.push(event);
      if (this.#waiting.length > 2 * MAX_EVENTS) this.#waiting = this.#waiting.slice(-MAX_EVENTS);
      return false;
    }
    this.#events.push(event);
    this.#chars += size(event);
    this.#trim();
    return true;
  }

  pause() {
    this.isPaused = true;
    this.newCount = 0;
  }

  /** Return the next events that came in the pause, at most `limit`. After the last one it is over. */
  resume(limit = MAX_EVENTS) {
    const kept = this.#waiting.slice(-MAX_EVENTS);
    const lost = this.newCount - countOf(kept);
    const waiting = kept.slice(0, limit);
    this.#waiting = kept.slice(limit);
    this.isPaused = this.#waiting.length > 0;
    this.newCount = countOf(this.#waiting);
    if (lost > 0)
      waiting.unshift({
        notice: `${lost.toLocaleString()} events are not shown: the pause was too long.`,
      });
    this.#events.push(...waiting);
    for (const event of waiting) this.#chars += size(event);
    this.#trim();
    return waiting;
  }

  /** Return the newest events that a filter lets through, the oldest first, at most `limit`. */
  newest(limit, filter) {
    const found = [];
    for (let index = this.#events.length - 1; index >= 0 && found.length < limit; index -= 1) {
      if (filter(this.#events[index])) found.push(this.#events[index]);
    }
    return found.reverse();
  }

  #trim() {
    let count = 0;
    // In steps of some hundred: each one moves all the others.
    if (this.#events.length > MAX_EVENTS * 1.1) count = this.#events.length - MAX_EVENTS;
    let chars = this.#chars;
    for (let index = 0; index < count; index += 1) chars -= size(this.#events[index]);
    while (chars > MAX_CHARS && count < this.#events.length - 1)
      chars -= size(this.#events[count++]);
    if (count) this.#events.splice(0, count);
    this.#chars = chars;
  }
}

const countOf = (events) => events.filter((event) => !event.notice).length;
const size = ({ data = "" }) => data.length + 500;
