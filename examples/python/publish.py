"""Publishes a trade signal of a bot: signs an event and sends it to a relay.

    python3 publish.py --relay ws://127.0.0.1:7777/r/0 --key-file bot.key --content "long BTC"

prints the event when the relay has accepted it. The key is in the file, as nsec1... or hex, or in
the variable NOSTR_SECRET_KEY. The key does not leave this program.
Needs nostr-sdk and websockets: python3 -m venv .venv && .venv/bin/pip install nostr-sdk websockets
"""

import argparse
import json
import os
import sys

from nostr_sdk import EventBuilder, Keys, Kind, NostrSdkError, Tag
from websockets.exceptions import InvalidURI, WebSocketException
from websockets.sync.client import connect

ANSWER_SECONDS_MAX = 10


def main():
    parser = argparse.ArgumentParser(description="Publishes a trade signal of a bot.")
    parser.add_argument("--relay", required=True, help="the relay's URL, such as ws://127.0.0.1:7777/r/0")
    parser.add_argument("--content", required=True, help="the content of the signal")
    parser.add_argument("--kind", type=int, default=30931, help="the event's kind (30931)")
    name_help = "the event's d tag: a later event with the same one is a newer version (1)"
    parser.add_argument("--name", default="1", help=name_help)
    parser.add_argument("--key-file", help="the bot's secret key, nsec1... or hex; or set NOSTR_SECRET_KEY")
    args = parser.parse_args()
    builder = EventBuilder(Kind(args.kind), args.content).tags([Tag.parse(["d", args.name])])
    event = builder.finalize(load_keys(args.key_file))
    try:
        with connect(args.relay, open_timeout=ANSWER_SECONDS_MAX) as socket:
            socket.send(f'["EVENT",{event.as_json()}]')
            while True:
                # Relays also send other messages, such as NOTICE and AUTH.
                message = json.loads(socket.recv(timeout=ANSWER_SECONDS_MAX))
                if message[:2] == ["OK", event.id().to_hex()]:
                    break
    except (OSError, InvalidURI, WebSocketException) as error:
        sys.exit(f"{args.relay} does not answer: {error}")
    if not message[2]:
        sys.exit(f"the relay refuses the event: {message[3]}")
    print(event.as_json())


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


if __name__ == "__main__":
    main()
