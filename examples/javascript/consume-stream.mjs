// Receives every event of a gateway as Server-Sent Events and loses none, whatever fails or
// restarts.
//
//     node consume-stream.mjs http://127.0.0.1:8080/api/events/stream cursor.txt
//
// prints the number and the id of each event. Parameters select events: '…/stream?kinds=1,7'. Needs
// nothing but Node.js 18.3 or newer. A web page uses EventSource instead, which reconnects in the
// same way, but forgets its cursor when the page is closed.

import { open, readFile, rename } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

const PAUSE_MS = 1_000;
const HEARTBEAT_SECONDS = 30;
const EVENT_BYTES_MAX = 32 * 2 ** 20;

async function main() {
  const [url, path] = process.argv.slice(2);
  if (path === undefined || !/^https?:\/\/./.test(url)) {
    throw new Stop("usage: consume-stream.mjs URL STATE_FILE");
  }
  const cursor = await Cursor.load(path);
  for (;;) {
    try {
      await follow(url, cursor);
    } catch (error) {
      if (error instanceof Stop) throw error;
      say(`connecting again: ${error.cause?.message ?? error.message}`);
    }
    await sleep(PAUSE_MS);
  }
}

// Connects and processes events until the response ends or the connection fails.
async function follow(url, cursor) {
  const target = new URL(url);
  target.searchParams.set("heartbeat", HEARTBEAT_SECONDS);
  // The gateway sends something at least once in each interval. Silence means a dead connection.
  const watch = new AbortController();
  const alarm = setTimeout(() => watch.abort(new Error("nothing was received")), 2_000 * HEARTBEAT_SECONDS);
  try {
    const headers = { accept: "text/event-stream", "last-event-id": cursor.toString() };
    const response = await fetch(target, { headers, signal: watch.signal });
    if (!response.ok) return await refused(response, cursor);
    const log = response.headers.get("relayer-log");
    say(`connected; going on after event ${cursor.seq}`);
    for await (const { name, id, data } of events(response.body, () => alarm.refresh())) {
      if (name === "close") {
        const { code, reason } = JSON.parse(data).close;
        throw new Error(`the gateway closes: ${code} ${reason}`);
      }
      if (id === undefined || Number(id) <= cursor.seq) continue; // the start of the stream, or a repeat
      if (name === undefined) {
        const { seq, event } = JSON.parse(data);
        // Your work here. If the program dies before the cursor is written, the work is repeated
        // for this event, so make it idempotent: for example, write a row under the event's id.
        console.log(`${seq} ${event.id}`);
      }
      // Only after the work: a stored event does not come again. A heartbeat moves the cursor, too,
      // so that a selection of rare events does not fall behind what the gateway stores. An fsync
      // for each event is simple; if it is too slow, store every hundredth, and up to a hundred
      // come twice.
      await cursor.advance(log, Number(id));
    }
    throw new Error("the response ended");
  } finally {
    clearTimeout(alarm);
  }
}

// The events of a response. Comments and unknown fields are skipped, as browsers do.
async function* events(body, onData) {
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of body) {
    onData();
    text += decoder.decode(bytes, { stream: true });
    const blocks = text.split("\n\n");
    text = blocks.pop();
    if (text.length > EVENT_BYTES_MAX) throw new Error("an event is too long");
    for (const block of blocks) {
      const event = {};
      for (const line of block.split("\n")) {
        const [, field, value] = line.match(/^([^:]+): ?(.*)$/s) ?? [];
        if (field === "event") event.name = value;
        if (field === "id") event.id = value;
        if (field === "data") event.data = value; // the gateway sends one line
      }
      yield event;
    }
  }
}

// Handles an error response. It is JSON unless it came from a proxy.
async function refused(response, cursor) {
  const answer = await response.json().catch(() => ({}));
  const reason = answer.message ?? "no reason given";
  if (response.status === 410 && answer.oldest !== undefined) {
    // The next events have been trimmed: report the loss and continue at the oldest.
    say(`events ${cursor.seq + 1} to ${answer.oldest - 1} are lost: the gateway no longer stores them`);
    await cursor.advance(cursor.log, answer.oldest - 1);
  } else if (response.status === 409 && answer.log !== undefined) {
    // A backup of the gateway was restored, so its later numbers mean other events. All stored
    // events come again, so the work must be idempotent.
    say(`the log was ${cursor.log} and is ${answer.log} now: a backup of the gateway was restored; starting over`);
    [cursor.log, cursor.seq] = ["", 0];
  } else if (response.status === 429 || response.status >= 500) {
    say(`connecting again: the gateway answered ${response.status}: ${reason}`);
  } else {
    // An invalid parameter, or a cursor of another gateway: retrying would not help.
    throw new Stop(`the gateway answered ${response.status}: ${reason}`);
  }
}

// The last processed event, in a file: LOG:SEQ, the identity of the log and the sequence.
class Cursor {
  constructor(path, log, seq) {
    Object.assign(this, { path, log, seq });
  }

  static async load(path) {
    let text = "0";
    try {
      text = await readFile(path, "utf8");
    } catch (error) {
      if (error.code !== "ENOENT") throw new Stop(`cannot read ${path}: ${error.message}`);
    }
    const found = text.match(/^(?:([0-9a-f]{16}):)?(\d{1,16})\s*$/);
    if (found === null) throw new Stop(`cannot read a sequence from ${path}`);
    return new Cursor(path, found[1] ?? "", Number(found[2]));
  }

  toString() {
    return this.log ? `${this.log}:${this.seq}` : `${this.seq}`;
  }

  // The file always contains the old number or the new one, never a part.
  async advance(log, seq) {
    [this.log, this.seq] = [log ?? "", seq];
    try {
      const file = await open(`${this.path}.new`, "w");
      await file.writeFile(this.toString());
      await file.sync();
      await file.close();
      await rename(`${this.path}.new`, this.path);
    } catch (error) {
      throw new Stop(`cannot write ${this.path}: ${error.message}`);
    }
  }
}

// Why the program ends.
class Stop extends Error {}

function say(text) {
  console.error(text);
}

main().catch((error) => {
  console.error(error instanceof Stop ? error.message : error);
  process.exitCode = 1;
});
