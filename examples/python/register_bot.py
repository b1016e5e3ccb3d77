"""Registers a bot at a gateway, so that clients can follow the bot there.

    python3 register_bot.py --gateway http://127.0.0.1:8080 --name "Momentum" --key-file bot.key

prints the gateway's response. Registering again changes the name. The key is in the file, as
nsec1... or hex, or in the variable NOSTR_SECRET_KEY. The key does not leave this program.
Needs nostr-sdk: python3 -m venv .venv && .venv/bin/pip install nostr-sdk
"""

import argparse
import base64
import hashlib
import json
import os
import secrets
import sys
import urllib.error
import urllib.request

from nostr_sdk import EventBuilder, Keys, Kind, NostrSdkError, Tag


def main():
    parser = argparse.ArgumentParser(description="Registers a bot at a gateway.")
    parser.add_argument("--gateway", required=True, help="for example http://127.0.0.1:8080")
    name_help = "the bot's name in the gateway's registry, 1 to 100 characters; registering again changes it"
    parser.add_argument("--name", required=True, help=name_help)
    parser.add_argument("--key-file", help="the bot's secret key, nsec1... or hex; or set NOSTR_SECRET_KEY")
    args = parser.parse_args()
    keys = load_keys(args.key_file)
    url = args.gateway.rstrip("/") + "/api/bots/register"
    body = json.dumps({"bot_pubkey": keys.public_key().to_hex(), "name": args.name}).encode()
    headers = {"Content-Type": "application/json", "Authorization": token(keys, url, "POST", body)}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
            print(answer.read().decode())
    except urllib.error.HTTPError as error:
        sys.exit(f"the gateway answered {error.code}: {error.read().decode(errors='replace')}")
    except (OSError, ValueError) as error:
        sys.exit(f"the gateway cannot be reached: {error}")


def token(keys, url, method, body):
    """The value of the Authorization header: a NIP-98 token for this call."""
    # The gateway accepts each token only once. Without `random`, two tokens for the same call in
    # one second would be equal.
    payload, salt = hashlib.sha256(body).hexdigest(), secrets.token_hex(8)
    tags = [["u", url], ["method", method], ["payload", payload], ["random", salt]]
    event = EventBuilder(Kind(27235), "").tags([Tag.parse(tag) for tag in tags]).finalize(keys)
    return "Nostr " + base64.b64encode(event.as_json().encode()).decode()


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
