// The rows of the live tail. The newest events are kept, and no more are drawn than a browser can
// draw without freezing, however many arrive.

import { get, stream } from "../api.js";
import { useEffect, useRef, useState } from "../ui.js";

/** How many rows are kept. */
export const KEPT = 500;

/** How often rows are added, and how many at most in the long run. */
const DRAW_MS = 250;
const DRAWN_EACH = 40;

export const DRAWN_A_SECOND = (1000 / DRAW_MS) * DRAWN_EACH;

/** How many events before the newest the tail begins: more with a filter, as few of them match. */
const BACK = 100;
const BACK_FILTERED = 5_000;

/** A quiet stream gets a heartbeat, whose cursor is used after a short interruption. */
const HEARTBEAT_SECONDS = 10;

/** After a longer interruption the tail continues with new events, and a row says so. */
const CATCH_UP_MS = 30_000;

/** The time over which the rate of arrival is measured. */
const RATE_MS = 5_000;

/** The pause before the beginning is looked for again. */
const RETRY_MS = 5_000;

/** Where the log ends, and the cursor at which the tail begins. */
async function beginning(isFiltered, signal) {
  const { events, head, log } = await get("api/events", { params: { limit: 1 }, signal });
  const before = (events[0]?.seq ?? head + 1) - 1;
  return { head, cursor: `${log}:${Math.max(before, head - (isFiltered ? BACK_FILTERED : BACK))}` };
}

const NOTHING = { rows: [], state: "connecting", reason: null, error: null, rate: 0, waiting: 0, skipped: 0, isSkipping: false };

class Tail {
  constructor({ kinds, authors, matches }, onDraw) {
    Object.assign(this, { kinds, authors, matches, onDraw });
    this.shown = NOTHING;
    this.arrived = [];
    this.isPaused = false;
    this.cursor = null;
    this.head = 0;
    this.seenAt = 0;
    this.wasOpen = false;
    this.allowance = KEPT;
    this.skipped = 0;
    this.skippedAt = -Infinity;
    this.counts = [];
    this.count = 0;
    this.abort = new AbortController();
    this.timer = setInterval(() => this.draw(), DRAW_MS);
    this.start();
  }

  async start() {
    try {
      const isFiltered = Boolean(this.kinds || this.authors || this.matches);
      Object.assign(this, await beginning(isFiltered, this.abort.signal), { seenAt: Date.now() });
      if (this.abort.signal.aborted) return;
    } catch (error) {
      if (this.abort.signal.aborted) return;
      this.change({ state: "failed", error });
      this.retry = setTimeout(() => this.start(), RETRY_MS);
      return;
    }
    this.change({ error: null });
    this.close = stream("api/events/stream", {
      params: () => {
        const isFresh = Date.now() - this.seenAt < CATCH_UP_MS;
        this.hasGap = this.wasOpen && !isFresh;
        return { kinds: this.kinds, authors: this.authors, heartbeat: HEARTBEAT_SECONDS, cursor: isFresh ? this.cursor : null };
      },
      events: {
        message: (envelope) => this.receive(envelope),
        heartbeat: (_, id) => this.seen(id),
        close: ({ close }) => this.change({ reason: close.reason }),
      },
      onState: (state) => this.onState(state),
    });
  }

  stop() {
    this.abort.abort();
    clearInterval(this.timer);
    clearTimeout(this.retry);
    this.close?.();
  }

  seen(id) {
    if (id) this.cursor = `${this.cursor.split(":")[0]}:${id}`;
    this.seenAt = Date.now();
  }

  onState(state) {
    if (state === "open") {
      if (this.hasGap) this.arrived.push({ key: `gap ${Date.now()}`, gap: { from: this.seenAt, until: Date.now() } });
      this.wasOpen = true;
      this.seenAt = Date.now();
    }
    this.change({ state, reason: state === "open" ? null : this.shown.reason });
  }

  receive(envelope) {
    this.seen(String(envelope.seq));
    if (envelope.seq > this.head) this.count += 1;
    if (this.matches && !this.matches(envelope)) return;
    this.arrived.push({ key: envelope.seq, envelope });
    // Trimmed in steps, so that a row costs little.
    if (this.arrived.length >= 2 * KEPT) this.skip(this.arrived.splice(0, this.arrived.length - KEPT).length);
  }

  skip(number) {
    this.skipped += number;
    this.skippedAt = Date.now();
  }

  /** Adds the arrived events to the rows, the newest first. */
  draw() {
    const now = Date.now();
    this.counts.push([now, this.count]);
    while (this.counts.length > 2 && now - this.counts[0][0] > RATE_MS) this.counts.shift();
    const [since, before] = this.counts[0];
    const rate = now > since ? (1000 * (this.count - before)) / (now - since) : 0;
    const figures = { rate, skipped: this.skipped, isSkipping: now - this.skippedAt < RATE_MS, waiting: this.arrived.length };
    if (this.isPaused) return this.change(figures);
    this.allowance = Math.min(KEPT, this.allowance + DRAWN_EACH);
    const drawn = this.arrived.slice(Math.max(0, this.arrived.length - Math.floor(this.allowance)));
    if (drawn.length < this.arrived.length) this.skip(this.arrived.length - drawn.length);
    this.allowance -= drawn.length;
    this.arrived = [];
    const rows = drawn.length ? [...drawn.reverse(), ...this.shown.rows].slice(0, KEPT) : this.shown.rows;
    this.change({ ...figures, rows, skipped: this.skipped, waiting: 0 });
  }

  change(changes) {
    const next = { ...this.shown, ...changes };
    if (Object.keys(next).every((key) => next[key] === this.shown[key])) return;
    this.shown = next;
    this.onDraw(next);
  }
}

/**
 * Follows the log. `kinds` and `authors` select on the gateway; `matches(envelope)`, if it is not
 * null, selects here. Returns the rows, the newest first, with the rate and the numbers of skipped
 * and waiting events.
 */
export function useTail({ kinds, authors, matches }, isPaused) {
  const [shown, setShown] = useState(NOTHING);
  const tail = useRef(null);
  useEffect(() => {
    setShown(NOTHING);
    tail.current = new Tail({ kinds, authors, matches }, setShown);
    return () => tail.current.stop();
  }, [kinds, authors, matches]);
  useEffect(() => {
    tail.current.isPaused = isPaused;
    // Events that arrived during the pause are drawn at once.
    if (!isPaused) tail.current.allowance = KEPT;
  }, [kinds, authors, matches, isPaused]);
  return shown;
}
