// Follows a bot: receives its trade signals from a gateway's /fanout, and decrypts, verifies and
// prints them.
//
//     node follow.mjs --gateway http://127.0.0.1:8080 --bot npub1... --key-file follower.key --state follow.json
//
// prints a line of JSON for each signal: {"seq":42,"stale":false,"event":{...}}. With a new state
// file, the program starts with the bot's oldest stored signal. The key is in the file, as nsec1...
// or hex, or in the variable NOSTR_SECRET_KEY. The key is not an argument, because ps shows
// arguments to everybody. --shared-secret-file FILE requests encryption with the content of the
// file, without the final line break. Without the option, an earlier shared secret is removed.
// Needs: npm ci, and Node.js 18.3 or newer

import { createHash, createHmac, randomBytes, webcrypto } from "node:crypto";
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import { finalizeEvent, getPublicKey, nip19, nip42, nip44, verifyEvent } from "nostr-tools";
import WebSocket from "ws";

globalThis.crypto ??= webcrypto; // Node.js 18 does not set this global

const MESSAGE_BYTES_MAX = 32 * 2 ** 20;
const ANSWER_MS_MAX = 10_000;
// The gateway pings every 30 seconds, so a connection that sends nothing for this long is dead.
const SILENCE_MS_MAX = 90_000;
const [PAUSE_MS_MIN, PAUSE_MS_MAX] = [500, 30_000];

/** A permanent error: the program exits. */
class Fatal extends Error {}

/** The gateway refuses us for now. */
class Refused extends Error {
  constructor(text, restMs) {
    super(text);
    this.restMs = restMs;
  }
}

async function main() {
  const string = { type: "string" };
  const options = { gateway: string, bot: string, "key-file": string, "shared-secret-file": string, state: string };
  const args = attempt("usage", () => parseArgs({ options })).values;
  if (!args.gateway || !args.bot) {
    throw new Fatal(
      "usage: follow.mjs --gateway URL --bot KEY [--key-file FILE] [--shared-secret-file FILE] [--state FILE]",
    );
  }
  const gateway = args.gateway.replace(/\/+$/, "");
  if (!/^https?:/.test(gateway)) throw new Fatal(`--gateway ${gateway} begins with neither http:// nor https://`);
  const secretFile = args["shared-secret-file"];
  const readSecret = () => readFileSync(secretFile, "utf8").replace(/[\r\n]+$/, "");
  const follower = new Follower({
    gateway,
    bot: attempt(`${args.bot} is not a public key`, () => publicKey(args.bot)),
    secretKey: loadKey(args["key-file"]),
    sharedSecret: secretFile && attempt("no shared secret", readSecret),
    state: new State(args.state ?? "follow.json", gateway),
  });
  for (let pause = PAUSE_MS_MIN; ; ) {
    let rest = 0;
    try {
      await follower.follow();
    } catch (error) {
      if (error instanceof Fatal) throw error;
      // The error may be a close by the gateway. A close reason may name a cursor, but our own
      // cursor is always right.
      say(`connecting again: ${error.cause?.message ?? error.message}`);
      rest = error.restMs ?? 0;
    }
    pause = follower.wasConnected ? PAUSE_MS_MIN : Math.min(2 * pause, PAUSE_MS_MAX);
    // Spreads the followers' reconnects when the gateway returns.
    await sleep(Math.max(rest, pause * (0.5 + Math.random() / 2)));
  }
}

class Follower {
  constructor({ gateway, bot, secretKey, sharedSecret, state }) {
    Object.assign(this, { gateway, bot, secretKey, sharedSecret, state });
    this.publicKey = getPublicKey(secretKey);
    this.subscribed = this.wasConnected = false;
  }

  /** Subscribes, connects and processes messages until the connection ends with an exception. */
  async follow() {
    this.wasConnected = false;
    if (!this.subscribed) {
      const body = { bot_pubkey: this.bot, follower_pubkey: this.publicKey, shared_secret: this.sharedSecret };
      await call(`${this.gateway}/api/subscriptions`, { body, secretKey: this.secretKey });
      this.subscribed = true;
    }
    this.state.pin((await call(`${this.gateway}/api/identity`)).pubkey);
    const url = `${this.gateway.replace(/^http/, "ws")}/fanout`;
    const socket = attempt("no WebSocket", () => new WebSocket(`${url}?cursor=${this.state.cursor()}`, {
      maxPayload: MESSAGE_BYTES_MAX,
      handshakeTimeout: ANSWER_MS_MAX,
    }));
    await new Promise((_, reject) => {
      const fail = (error) => {
        clearTimeout(silence);
        socket.removeAllListeners("message"); // later messages must not be processed
        socket.terminate();
        reject(error);
      };
      const silence = setTimeout(() => fail(new Error("the gateway sent nothing, not even a ping")), SILENCE_MS_MAX);
      const step = (work) => {
        silence.refresh();
        try {
          work();
        } catch (error) {
          fail(error);
        }
      };
      socket.on("message", (text) => step(() => {
        const message = JSON.parse(text);
        if (this.wasConnected) this.take(message);
        else this.authenticate(socket, url, message);
      }));
      socket.on("ping", () => silence.refresh());
      socket.on("close", (code, reason) => fail(new Error(`the gateway closed with ${code}: ${reason}`)));
      socket.on("error", fail);
      socket.on("unexpected-response", async (_, response) => {
        const chunks = [];
        try {
          for await (const chunk of response) chunks.push(chunk);
          this.refused(response, Buffer.concat(chunks));
        } catch (error) {
          fail(error);
        }
      });
    });
  }

  /** NIP-42: the gateway sends a challenge, we sign it, and the gateway accepts or refuses the proof. */
  authenticate(socket, url, [type, value, accepted, reason]) {
    if (type === "AUTH") {
      socket.send(JSON.stringify(["AUTH", finalizeEvent(nip42.makeAuthEvent(url, value), this.secretKey)]));
    } else if (type === "OK" && accepted) {
      this.wasConnected = true;
      say(`connected; going on after ${this.state.seq}`);
    } else {
      throw new Fatal(`the gateway does not accept our key: ${reason}`);
    }
  }

  take(message) {
    if (message.seq === undefined) return this.told(message);
    if (message.seq <= this.state.seq) return; // a repeat
    // One connection carries the signals of all bots that this key follows. Other bots' signals are
    // for other programs.
    if (message.bot_pubkey === this.bot) {
      const { event, wrong } = this.open(message);
      if (event) {
        // Your work here; never trade on a stale signal. If the program dies before the state is
        // written, the work is repeated for this event, so make it idempotent: for example, write a
        // row under the event's id. Asynchronous work needs a queue here, so that messages are
        // processed one after the other.
        console.log(JSON.stringify({ seq: message.seq, stale: message.stale ?? false, event }));
      } else {
        // The message would fail every time, so it must not block later messages.
        say(`NOT A SIGNAL, skipped: message ${message.seq}: ${wrong}`);
      }
    }
    // Advance only after the work: a stored message does not come again.
    this.state.advance(message.log, message.seq);
  }

  /** Handles a notice about a changed follow. */
  told(message) {
    if (message.bot_pubkey !== this.bot) return;
    if (message.type === "unsubscribed") {
      throw new Fatal("the follow has ended: restart this program to subscribe again");
    }
    if (message.type === "secret_changed") {
      say(`signals are encrypted with ${message.encryption} from now on, because the subscription was changed`);
    }
  }

  /** Decrypts a message, and returns its event if the bot has signed it. */
  open(message) {
    if (message.target_pubkey !== this.publicKey) return { wrong: "it is for another follower" };
    let text;
    try {
      text = nip44.v2.decrypt(message.ciphertext, this.conversationKey(message.encryption));
    } catch (error) {
      throw new Fatal(`message ${message.seq} cannot be decrypted: ${error.message}`);
    }
    let given;
    try {
      given = JSON.parse(text);
    } catch {
      return { wrong: "it is not JSON" };
    }
    // A new object with only the signed fields, because verifyEvent trusts a result cached in its
    // argument.
    const { id, pubkey, created_at, kind, tags, content, sig } = given ?? {};
    const event = { id, pubkey, created_at, kind, tags, content, sig };
    if (!verifyEvent(event)) return { wrong: "the id or the signature is invalid" };
    if (pubkey !== this.bot) return { wrong: "another key has signed it" };
    if (id !== message.original_event_id || kind !== message.kind || created_at !== message.created_at) {
      return { wrong: "the envelope does not match the event" };
    }
    return { event };
  }

  conversationKey(encryption) {
    if (encryption === "nip44-v2") return nip44.getConversationKey(this.secretKey, this.state.pubkey);
    if (encryption !== "nip44-v2-shared-secret") throw new Error(`this program does not support ${encryption}`);
    if (!this.sharedSecret) throw new Error("another program has set a shared secret; pass --shared-secret-file");
    // HKDF-SHA256-extract is an HMAC whose key is the salt.
    return createHmac("sha256", "moltrade-fanout-v1").update(this.sharedSecret).digest();
  }

  /** Handles an error response to the handshake. The gateway sends JSON, a proxy may not. */
  refused(response, body) {
    const answer = readError(body);
    if (response.statusCode === 410 && answer.oldest) {
      // The next messages have been trimmed: report the loss and continue at the oldest stored
      // message.
      const oldest = answer.oldest;
      say(`signals between ${this.state.seq + 1} and ${oldest - 1} are lost: the gateway no longer stores them`);
      this.state.advance(this.state.log, oldest - 1);
      throw new Refused("continuing at the oldest stored signal", 0);
    }
    if (response.statusCode === 409 && answer.error === "cursor_of_another_log") {
      // A backup of the gateway was restored, so numbers after the backup mean other signals. All
      // stored signals come again, and old signals are marked as stale.
      const log = this.state.log;
      this.state.advance(null, 0);
      throw new Refused(`the log was ${log} and is ${answer.log} now: a backup was restored; starting over`, 0);
    }
    refuse(response.statusCode, answer.message, response.headers["retry-after"]);
  }
}

/** Sends a request to the gateway. With a key, signs the request as NIP-98 specifies. */
async function call(url, { body, secretKey } = {}) {
  const request = { method: body ? "POST" : "GET", headers: {}, signal: AbortSignal.timeout(ANSWER_MS_MAX) };
  if (body) {
    request.body = JSON.stringify(body);
    request.headers["Content-Type"] = "application/json";
  }
  if (secretKey) {
    const tags = [["u", url], ["method", request.method]];
    if (body) tags.push(["payload", createHash("sha256").update(request.body).digest("hex")]);
    // The gateway accepts each token only once. Without `random`, two tokens for the same call in
    // one second would be equal.
    tags.push(["random", randomBytes(8).toString("hex")]);
    const created_at = Math.floor(Date.now() / 1000);
    const event = finalizeEvent({ kind: 27235, created_at, tags, content: "" }, secretKey);
    request.headers.Authorization = `Nostr ${Buffer.from(JSON.stringify(event)).toString("base64")}`;
  }
  const answer = await fetch(url, request);
  const text = await answer.text();
  if (!answer.ok) refuse(answer.status, readError(text).message, answer.headers.get("retry-after"));
  return JSON.parse(text);
}

function refuse(status, reason, rest) {
  const text = `the gateway answered ${status}: ${reason}`;
  if (status === 429 || status >= 500) throw new Refused(text, Math.min(Number(rest) || 0, 3600) * 1000);
  // Retrying would not help: the key, a parameter or the clock is wrong, the bot is unknown, or the
  // cursor is of another gateway.
  throw new Fatal(text);
}

function readError(body) {
  try {
    return { message: "no reason given", ...JSON.parse(body) };
  } catch {
    return { message: "no reason given" };
  }
}

function publicKey(text) {
  if (/^[0-9a-f]{64}$/.test(text)) return text;
  const { type, data } = nip19.decode(text);
  if (type !== "npub") throw new Error(`it is an ${type}`);
  return data;
}

function loadKey(path) {
  if (!path && !process.env.NOSTR_SECRET_KEY) throw new Fatal("no key: pass --key-file, or set NOSTR_SECRET_KEY");
  return attempt(`cannot read the key from ${path ?? "NOSTR_SECRET_KEY"}`, () => {
    const text = path ? readFileSync(path, "utf8").trim() : process.env.NOSTR_SECRET_KEY;
    if (/^[0-9a-f]{64}$/.test(text)) return Uint8Array.from(Buffer.from(text, "hex"));
    const { type, data } = nip19.decode(text);
    if (type !== "nsec") throw new Error("it is neither nsec1... nor 64 hex digits");
    return data;
  });
}

/** Makes any error of the work fatal. */
function attempt(what, work) {
  try {
    return work();
  } catch (error) {
    throw new Fatal(`${what}: ${error.message}`);
  }
}

function say(text) {
  console.error(text);
}

/** The last processed message and its gateway, stored in a file. */
class State {
  constructor(path, gateway) {
    Object.assign(this, { path, gateway, pubkey: null, log: null, seq: 0 });
    let text;
    try {
      text = readFileSync(path, "utf8");
    } catch (error) {
      if (error.code === "ENOENT") return;
      throw new Fatal(`cannot read ${path}: ${error.message}`);
    }
    const state = attempt(`${path} is not a state of this program`, () => JSON.parse(text));
    if (!Number.isSafeInteger(state?.seq) || typeof state.pubkey !== "string") {
      throw new Fatal(`${path} is not a state of this program`);
    }
    if (state.gateway !== gateway) {
      throw new Fatal(
        `${path} belongs to ${state.gateway}, and a cursor belongs to one gateway: use another file`,
      );
    }
    // An earlier version of this program did not store the log.
    Object.assign(this, { pubkey: state.pubkey, log: state.log ?? null, seq: state.seq });
  }

  /** Trusts and stores the first key. If the gateway's key changes later, a human has to decide. */
  pin(pubkey) {
    if (this.pubkey === null) {
      this.write(pubkey, this.log, this.seq);
    } else if (this.pubkey !== pubkey) {
      throw new Fatal(
        `the gateway's key was ${this.pubkey} and is now ${pubkey}. If its operator says that this is right, ` +
          `write the new one into ${this.path}`,
      );
    }
  }

  /** Includes the log, because in a different log the number means a different signal. */
  cursor() {
    return this.log === null ? this.seq : `${this.log}:${this.seq}`;
  }

  advance(log, seq) {
    this.write(this.pubkey, log, seq);
  }

  /** The file always contains a whole state, either the old or the new one. */
  write(pubkey, log, seq) {
    const temporary = `${this.path}.new`;
    attempt(`cannot write ${this.path}`, () => {
      const file = openSync(temporary, "w");
      try {
        writeSync(file, JSON.stringify({ gateway: this.gateway, pubkey, log, seq }));
        fsyncSync(file);
      } finally {
        closeSync(file);
      }
      renameSync(temporary, this.path);
    });
    Object.assign(this, { pubkey, log, seq });
  }
}

main().catch((error) => {
  say(error instanceof Fatal ? error.message : error.stack);
  process.exit(1);
});
