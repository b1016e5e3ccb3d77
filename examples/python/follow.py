"""Follows a bot: receives its trade signals from a gateway's /fanout, and decrypts, verifies and
prints them.

    python3 follow.py --gateway http://127.0.0.1:8080 --bot npub1... --key-file follower.key --state follow.json

prints a line of JSON for each signal: {"seq":42,"stale":false,"event":{...}}. With a new state
file, the program starts with the bot's oldest stored signal. The key is in the file, as nsec1... or
hex, or in the variable NOSTR_SECRET_KEY. The key is not an argument, because ps shows arguments to
everybody.

nostr-sdk for Python supports neither shared secrets nor signals of more than 65,535 bytes. Following
with this program removes a secret that was set for the same bot and follower, and such signals are
skipped with a message.
Needs nostr-sdk and websockets: python3 -m venv .venv && .venv/bin/pip install nostr-sdk websockets
"""

import argparse
import base64
import hashlib
import json
import os
import random
import secrets
import sys
import time
import urllib.error
import urllib.request
from http.client import HTTPException

from nostr_sdk import Event, EventBuilder, Keys, Kind, NostrSdkError, PublicKey, Tag
from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException
from websockets.sync.client import connect

MESSAGE_BYTES_MAX = 32 * 2**20
CIPHERTEXT_CHARS_MAX = 87_472  # 65,535 bytes, encrypted and in base64
ANSWER_SECONDS_MAX = 10
PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX = 0.5, 30


def main():
    parser = argparse.ArgumentParser(description="Follows a bot and prints its trade signals.")
    parser.add_argument("--gateway", required=True, help="for example http://127.0.0.1:8080")
    parser.add_argument("--bot", required=True, type=public_key, help="the bot's key, npub1... or hex")
    parser.add_argument("--key-file", help="your secret key, nsec1... or hex; or set NOSTR_SECRET_KEY")
    parser.add_argument("--state", default="follow.json", help="file for the cursor (follow.json)")
    args = parser.parse_args()
    if not args.gateway.startswith("http"):
        sys.exit(f"--gateway {args.gateway} begins with neither http:// nor https://")
    follower = Follower(args.gateway.rstrip("/"), args.bot, load_keys(args.key_file), args.state)
    pause = PAUSE_SECONDS_MIN
    while True:
        rest = 0
        try:
            follower.follow()
        except Refused as error:
            say(f"trying again: {error}")
            rest = error.rest
        except (OSError, HTTPException, WebSocketException) as error:
            # The error may be a close by the gateway. A close reason may name a cursor, but our own
            # cursor is always right.
            say(f"connecting again: {error}")
        pause = PAUSE_SECONDS_MIN if follower.was_connected else min(2 * pause, PAUSE_SECONDS_MAX)
        # Spreads the followers' reconnects when the gateway returns.
        time.sleep(max(rest, pause * random.uniform(0.5, 1)))


class Refused(Exception):
    """The gateway refuses us for now."""

    def __init__(self, text, rest):
        super().__init__(text)
        self.rest = rest


class Follower:
    def __init__(self, gateway, bot, keys, state):
        self.gateway, self.bot, self.keys = gateway, bot, keys
        self.state = State(state, gateway)
        self.subscribed = self.was_connected = False

    def follow(self):
        """Subscribes, connects and processes messages until the connection ends with an exception."""
        self.was_connected = False
        if not self.subscribed:
            body = {"bot_pubkey": self.bot, "follower_pubkey": self.keys.public_key().to_hex()}
            call(self.gateway + "/api/subscriptions", body, self.keys)
            self.subscribed = True
        self.state.pin(call(self.gateway + "/api/identity")["pubkey"])
        url = "ws" + self.gateway.removeprefix("http") + "/fanout"
        try:
            # The library detects a dead connection with pings. Slow work delays reading the pong,
            # so the time-out is long.
            with connect(f"{url}?cursor={self.state.cursor()}", max_size=MESSAGE_BYTES_MAX, ping_timeout=60) as socket:
                self.authenticate(socket, url)
                self.was_connected = True
                say(f"connected; going on after {self.state.seq}")
                while True:
                    self.take(json.loads(socket.recv()))
        except InvalidURI as error:
            sys.exit(str(error))
        except InvalidStatus as error:
            self.refused(error.response)

    def authenticate(self, socket, url):
        """NIP-42: the gateway sends a challenge, and we sign it."""
        _, challenge = json.loads(socket.recv(timeout=ANSWER_SECONDS_MAX))
        event = sign(self.keys, 22242, [["relay", url], ["challenge", challenge]])
        socket.send(f'["AUTH",{event}]')
        _, _, accepted, reason = json.loads(socket.recv(timeout=ANSWER_SECONDS_MAX))
        if not accepted:
            sys.exit(f"the gateway does not accept our key: {reason}")

    def take(self, message):
        if "seq" not in message:
            return self.told(message)
        seq = message["seq"]
        if seq <= self.state.seq:
            return  # a repeat
        # One connection carries the signals of all bots that this key follows. Other bots' signals
        # are for other programs.
        if message["bot_pubkey"] == self.bot:
            try:
                event = self.open(message)
            except ValueError as error:
                # The message would fail every time, so it must not block later messages.
                say(f"NOT A SIGNAL, skipped: message {seq}: {error}")
            else:
                # Your work here; never trade on a stale signal. If the program dies before the
                # state is written, the work is repeated for this event, so make it idempotent: for
                # example, write a row under the event's id.
                print(json.dumps({"seq": seq, "stale": message.get("stale", False), "event": event}), flush=True)
        # Advance only after the work: a stored message does not come again.
        self.state.advance(message["log"], seq)

    def told(self, message):
        """Handles a notice about a changed follow."""
        if message.get("bot_pubkey") != self.bot:
            return
        if message.get("type") == "unsubscribed":
            sys.exit("the follow has ended: restart this program to subscribe again")
        if message.get("type") == "secret_changed":
            say(f"signals are encrypted with {message.get('encryption')} from now on, because the subscription was changed")

    def open(self, message):
        """Decrypts a message, and returns its event if the bot has signed it."""
        if message["target_pubkey"] != self.keys.public_key().to_hex():
            raise ValueError("it is for another follower")
        if message["encryption"] != "nip44-v2":
            sys.exit(f"this program cannot decrypt {message['encryption']}: has another program set a shared secret?")
        if len(message["ciphertext"]) > CIPHERTEXT_CHARS_MAX:
            raise ValueError("the signal has more than 65,535 bytes, which nostr-sdk cannot decrypt")
        try:
            text = self.keys.nip44_decrypt(PublicKey.parse(self.state.pubkey), message["ciphertext"])
        except NostrSdkError as error:
            sys.exit(f"message {message['seq']} cannot be decrypted: {error}")
        try:
            event = Event.from_json(text)
        except NostrSdkError as error:
            raise ValueError(f"not an event: {error}") from None
        if not event.verify():
            raise ValueError("the id or the signature is invalid")
        if event.author().to_hex() != self.bot:
            raise ValueError("another key has signed it")
        said = (message["original_event_id"], message["kind"], message["created_at"])
        if said != (event.id().to_hex(), event.kind().as_u16(), event.created_at().as_secs()):
            raise ValueError("the envelope does not match the event")
        return json.loads(event.as_json())

    def refused(self, response):
        """Handles an error response to the handshake. The gateway sends JSON, a proxy may not."""
        answer, reason = read_error(response.body)
        if response.status_code == 410 and "oldest" in answer:
            # The next messages have been trimmed: report the loss and continue at the oldest stored
            # message.
            oldest = answer["oldest"]
            say(f"signals between {self.state.seq + 1} and {oldest - 1} are lost: the gateway no longer stores them")
            self.state.advance(self.state.log, oldest - 1)
            raise Refused("continuing at the oldest stored signal", 0)
        if response.status_code == 409 and answer.get("error") == "cursor_of_another_log":
            # A backup of the gateway was restored, so numbers after the backup mean other signals.
            # All stored signals come again, and old signals are marked as stale.
            log = self.state.log
            self.state.advance(None, 0)
            raise Refused(f"the log was {log} and is {answer['log']} now: a backup was restored; starting over", 0)
        refuse(response.status_code, reason, response.headers.get("Retry-After"))


def call(url, body=None, keys=None):
    """Sends a request to the gateway. With keys, signs the request as NIP-98 specifies."""
    request = urllib.request.Request(url)
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    if keys is not None:
        tags = [["u", url], ["method", request.get_method()]]
        if request.data:
            tags.append(["payload", hashlib.sha256(request.data).hexdigest()])
        # The gateway accepts each token only once. Without `random`, two tokens for the same call
        # in one second would be equal.
        tags.append(["random", secrets.token_hex(8)])
        token = base64.b64encode(sign(keys, 27235, tags).encode()).decode()
        request.add_header("Authorization", f"Nostr {token}")
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS_MAX) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        refuse(error.code, read_error(error.read())[1], error.headers.get("Retry-After"))


def refuse(status, reason, rest):
    text = f"the gateway answered {status}: {reason}"
    if status == 429 or status >= 500:
        raise Refused(text, min(int(rest), 3600) if (rest or "").isdecimal() else 0)
    # Retrying would not help: the key, a parameter or the clock is wrong, the bot is unknown, or
    # the cursor is of another gateway.
    sys.exit(text)


def read_error(body):
    try:
        answer = json.loads(body)
        return answer, answer["message"]
    except (ValueError, KeyError, TypeError):
        return {}, "no reason given"


def sign(keys, kind, tags):
    return EventBuilder(Kind(kind), "").tags([Tag.parse(tag) for tag in tags]).finalize(keys).as_json()


def public_key(text):
    try:
        return PublicKey.parse(text).to_hex()
    except NostrSdkError as error:
        raise argparse.ArgumentTypeError(f"{text} is not a public key: {error}") from None


def load_keys(path):
    try:
        if path:
            with open(path) as file:
                return Keys.parse(file.read().strip())
        return Keys.parse(os.environ["NOSTR_SECRET_KEY"])
    except KeyError:
        sys.exit("no key: pass --key-file, or set NOSTR_SECRET_KEY")
    except (OSError, ValueError, NostrSdkError) as error:
        sys.exit(f"cannot read the key from {path or 'NOSTR_SECRET_KEY'}: {error}")


def say(text):
    print(text, file=sys.stderr, flush=True)


class State:
    """The last processed message and its gateway, stored in a file."""

    def __init__(self, path, gateway):
        self.path, self.gateway, self.pubkey, self.log, self.seq = path, gateway, None, None, 0
        try:
            with open(path) as file:
                state = json.load(file)
            self.pubkey, self.seq, known = state["pubkey"], state["seq"], state["gateway"]
            self.log = state.get("log")  # an earlier version of this program did not store the log
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            sys.exit(f"{path} is not a state of this program: {error!r}")
        if known != gateway:
            sys.exit(f"{path} belongs to {known}, and a cursor belongs to one gateway: use another file")

    def pin(self, pubkey):
        """Trusts and stores the first key. If the gateway's key changes later, a human has to decide."""
        if self.pubkey is None:
            self.write(pubkey, self.log, self.seq)
        elif self.pubkey != pubkey:
            sys.exit(
                f"the gateway's key was {self.pubkey} and is now {pubkey}. If its operator says that this is right,"
                f" write the new one into {self.path}"
            )

    def cursor(self):
        """Includes the log, because in a different log the number means a different signal."""
        return f"{self.log}:{self.seq}" if self.log else self.seq

    def advance(self, log, seq):
        self.write(self.pubkey, log, seq)

    def write(self, pubkey, log, seq):
        """The file always contains a whole state, either the old or the new one."""
        temporary = f"{self.path}.new"
        try:
            with open(temporary, "w") as file:
                json.dump({"gateway": self.gateway, "pubkey": pubkey, "log": log, "seq": seq}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            sys.exit(f"cannot write {self.path}: {error}")
        self.pubkey, self.log, self.seq = pubkey, log, seq


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
