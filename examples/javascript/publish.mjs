// Publishes a trade signal of a bot: signs an event and sends it to a relay.
//
//     node publish.mjs --relay ws://127.0.0.1:7777/r/0 --key-file bot.key --content "long BTC"
//
// prints the event when the relay has accepted it. The key is in the file, as nsec1... or hex, or
// in the variable NOSTR_SECRET_KEY. The key does not leave this program.
// Needs: npm ci, and Node.js 18.3 or newer

import { webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { finalizeEvent, nip19 } from "nostr-tools";
import WebSocket from "ws";

globalThis.crypto ??= webcrypto; // Node.js 18 does not set this global

const ANSWER_MS_MAX = 10_000;

async function main() {
  const string = { type: "string" };
  const options = { relay: string, content: string, kind: string, name: string, "key-file": string };
  const { values: args } = parseArgs({ options });
  const text = args["key-file"] ? readFileSync(args["key-file"], "utf8").trim() : process.env.NOSTR_SECRET_KEY;
  if (!args.relay || !args.content || !text) {
    throw new Error(
      "usage: [NOSTR_SECRET_KEY=nsec1...] publish.mjs --relay URL --content TEXT [--key-file FILE] [--kind 30931]" +
        " [--name 1]\nNAME is the event's d tag: a later event with the same one is a newer version",
    );
  }
  const kind = Number(args.kind ?? 30931);
  const created_at = Math.floor(Date.now() / 1000);
  const tags = [["d", args.name ?? "1"]];
  const event = finalizeEvent({ kind, created_at, tags, content: args.content }, loadKey(text));
  const [accepted, reason] = await publish(args.relay, event);
  if (!accepted) throw new Error(`the relay refuses the event: ${reason}`);
  console.log(JSON.stringify(event));
}

/** Returns whether the relay has accepted the event and, if not, the reason. */
function publish(relay, event) {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(relay, { handshakeTimeout: ANSWER_MS_MAX });
    const fail = (reason) => {
      clearTimeout(timer);
      socket.terminate();
      reject(new Error(`${relay} does not answer: ${reason}`));
    };
    const timer = setTimeout(() => fail("it took too long"), ANSWER_MS_MAX);
    socket.on("open", () => socket.send(JSON.stringify(["EVENT", event])));
    socket.on("error", (error) => fail(error.message));
    socket.on("close", () => fail("it closed the connection"));
    socket.on("message", (data) => {
      // Relays also send other messages, such as NOTICE and AUTH.
      const [type, id, accepted, reason] = JSON.parse(data);
      if (type !== "OK" || id !== event.id) return;
      clearTimeout(timer);
      socket.close();
      resolve([accepted, reason]);
    });
  });
}

function loadKey(text) {
  if (/^[0-9a-f]{64}$/.test(text)) return Uint8Array.from(Buffer.from(text, "hex"));
  const { type, data } = nip19.decode(text);
  if (type !== "nsec") throw new Error("the key is neither nsec1... nor 64 hex digits");
  return data;
}

main().catch((error) => {
  console.error(error.cause?.message ?? error.message);
  process.exit(1);
});
