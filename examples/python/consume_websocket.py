"""Receives every event of a gateway over WebSocket and loses no event, whatever fails or restarts.

    python3 consume_websocket.py ws://127.0.0.1:8080/ws cursor.txt

prints the number and the id of each event. Parameters select events: 'ws://127.0.0.1:8080/ws?kinds=1,7'.
Needs websockets: python3 -m venv .venv && .venv/bin/pip install websockets
"""

import json
import os
import sys
import time

from websockets.exceptions import InvalidStatus, InvalidURI, WebSocketException
from websockets.sync.client import connect

MESSAGE_BYTES_MAX = 32 * 2**20
PAUSE_SECONDS = 1


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: consume_websocket.py URL STATE_FILE")
    url, cursor = sys.argv[1], Cursor(sys.argv[2])
    while True:
        try:
            follow(f"{url}{'&' if '?' in url else '?'}cursor={cursor}", cursor)
        except InvalidURI as error:
            sys.exit(str(error))
        except InvalidStatus as error:
            refused(error.response, cursor)
        except (OSError, WebSocketException) as error:
            # The error may be a close by the gateway. A close reason may name a cursor, but our own
            # cursor is always right.
            say(f"connecting again: {error}")
        time.sleep(PAUSE_SECONDS)


def follow(url, cursor):
    """Connects and processes events until the connection ends with an exception."""
    # The library detects a dead connection with pings. Slow work delays reading the pong, so the
    # time-out is long.
    with connect(url, max_size=MESSAGE_BYTES_MAX, ping_timeout=60) as gateway:
        say(f"connected; going on after event {cursor.seq}")
        while True:
            message = gateway.recv()
            try:
                envelope = json.loads(message)
                log, seq, event = envelope["log"], envelope["seq"], envelope["event"]
            except (ValueError, KeyError, TypeError):
                sys.exit(f"a message is not an envelope: {message}")
            if seq <= cursor.seq:
                continue  # a repeat
            # Your work here. If the program dies before the cursor is written, the work is repeated
            # for this event, so make it idempotent: for example, write a row under the event's id.
            print(seq, event["id"], flush=True)
            # Advance only after the work: a stored event does not come again. An fsync for each
            # event is simple. If that is too slow, store every hundredth event; then up to a
            # hundred events may come twice.
            cursor.advance(log, seq)


def refused(response, cursor):
    """Handles an error response to the handshake. The gateway sends JSON, a proxy may not."""
    try:
        answer = json.loads(response.body)
        reason = answer["message"]
    except (ValueError, KeyError, TypeError):
        answer, reason = {}, "no reason given"
    if response.status_code == 410 and "oldest" in answer:
        # The next messages have been trimmed: report the loss and continue at the oldest stored
        # message.
        oldest = answer["oldest"]
        say(f"events {cursor.seq + 1} to {oldest - 1} are lost: the gateway no longer stores them")
        cursor.advance(cursor.log, oldest - 1)
    elif response.status_code == 409 and "log" in answer:
        # A backup of the gateway was restored, so numbers after the backup mean other events. All
        # stored events come again, so the work must be idempotent.
        say(f"the log was {cursor.log} and is {answer['log']} now: a backup of the gateway was restored; starting over")
        cursor.log, cursor.seq = "", 0
    elif response.status_code == 429 or response.status_code >= 500:
        say(f"connecting again: the gateway answered {response.status_code}: {reason}")
    else:
        # Retrying would not help: a parameter is invalid, or the cursor is of another gateway.
        sys.exit(f"the gateway answered {response.status_code}: {reason}")


def say(text):
    print(text, file=sys.stderr, flush=True)


class Cursor:
    """The last processed event, stored in a file as LOG:SEQ (the log's identity, the sequence)."""

    def __init__(self, path):
        self.path, self.log, self.seq = path, "", 0
        try:
            with open(path) as file:
                self.log, _, seq = file.read().rpartition(":")
            self.seq = int(seq)
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            sys.exit(f"cannot read a sequence from {path}: {error}")

    def __str__(self):
        return f"{self.log}:{self.seq}" if self.log else str(self.seq)

    def advance(self, log, seq):
        """The file always contains a whole number, either the old or the new one."""
        temporary = f"{self.path}.new"
        try:
            with open(temporary, "w") as file:
                file.write(f"{log}:{seq}" if log else str(seq))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            sys.exit(f"cannot write {self.path}: {error}")
        self.log, self.seq = log, seq


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
