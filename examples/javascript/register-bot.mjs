// Registers a bot at a gateway, so that clients can follow the bot there.
//
//     node register-bot.mjs --gateway http://127.0.0.1:8080 --name Momentum --key-file bot.key
//
// prints the gateway's response. Registering again changes the name. The key is in the file, as
// nsec1... or hex, or in the variable NOSTR_SECRET_KEY. The key does not leave this program.
// Needs: npm ci, and Node.js 18.3 or newer

import { createHash, randomBytes, webcrypto } from "node:crypto";
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { finalizeEvent, getPublicKey, nip19 } from "nostr-tools";

globalThis.crypto ??= webcrypto; // Node.js 18 does not set this global

async function main() {
  const string = { type: "string" };
  const { values: args } = parseArgs({ options: { gateway: string, name: string, "key-file": string } });
  const text = args["key-file"] ? readFileSync(args["key-file"], "utf8").trim() : process.env.NOSTR_SECRET_KEY;
  if (!args.gateway || !args.name || !text) {
    throw new Error(
      "usage: [NOSTR_SECRET_KEY=nsec1...] register-bot.mjs --gateway URL --name NAME [--key-file FILE]\n" +
        "NAME is the bot's name in the gateway's registry, 1 to 100 characters; registering again changes it",
    );
  }
  const secretKey = loadKey(text);
  const url = `${args.gateway.replace(/\/+$/, "")}/api/bots/register`;
  const body = JSON.stringify({ bot_pubkey: getPublicKey(secretKey), name: args.name });
  const headers = { "Content-Type": "application/json", Authorization: token(secretKey, url, "POST", body) };
  const signal = AbortSignal.timeout(10_000);
  const answer = await fetch(url, { method: "POST", body, headers, signal });
  if (!answer.ok) throw new Error(`the gateway answered ${answer.status}: ${await answer.text()}`);
  console.log(await answer.text());
}

/** The value of the Authorization header: a NIP-98 token for this call. */
function token(secretKey, url, method, body) {
  const payload = createHash("sha256").update(body).digest("hex");
  // The gateway accepts each token only once. Without `random`, two tokens for the same call in one
  // second would be equal.
  const salt = randomBytes(8).toString("hex");
  const tags = [["u", url], ["method", method], ["payload", payload], ["random", salt]];
  const created_at = Math.floor(Date.now() / 1000);
  const event = finalizeEvent({ kind: 27235, created_at, tags, content: "" }, secretKey);
  return `Nostr ${Buffer.from(JSON.stringify(event)).toString("base64")}`;
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
