"""Listens on HTTP and processes the batches of events that a gateway posts.

    python3 consume_http.py 127.0.0.1:9100 cursor.txt

prints the number and the id of each new event. With WEBHOOK_SECRET=whsec_... in the environment,
the program accepts only requests signed with this secret (https://www.standardwebhooks.com).
The secret is not an argument, because ps shows arguments to everybody.
Needs standardwebhooks: python3 -m venv .venv && .venv/bin/pip install standardwebhooks
"""

import json
import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

BODY_BYTES_MAX = 64 * 2**20


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: [WEBHOOK_SECRET=whsec_...] consume_http.py ADDRESS STATE_FILE")
    host, _, port = sys.argv[1].rpartition(":")
    Receiver.cursor = Cursor(sys.argv[2])
    if (secret := os.environ.get("WEBHOOK_SECRET")) is not None:
        try:
            Receiver.webhook = Webhook(secret)
        except Exception as error:  # the library raises several types here
            sys.exit(f"WEBHOOK_SECRET is not a secret: {error}")
    if ":" in host:
        ThreadingHTTPServer.address_family = socket.AF_INET6
    try:
        server = ThreadingHTTPServer((host.strip("[]"), int(port)), Receiver)
    except (OSError, ValueError) as error:
        sys.exit(f"cannot listen on {sys.argv[1]}: {error}")
    server.serve_forever()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # the gateway keeps its connection open
    timeout = 60  # an idle connection must not keep a thread
    cursor = None
    webhook = None
    # If the gateway repeats a batch during the work, the repeat waits.
    working = threading.Lock()

    def do_POST(self):
        """2xx acknowledges the whole batch. After other responses, the gateway repeats it."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            return self.refuse(411, "the header Content-Length is missing")
        if int(length) > BODY_BYTES_MAX:
            return self.refuse(413, "the body has more than 64 MiB")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return self.log_error("the connection ended in the middle of a body")
        if self.webhook:
            try:
                self.webhook.verify(body, dict(self.headers), json_parse=False)
            except (WebhookVerificationError, ValueError) as error:
                return self.refuse(401, f"the signature is wrong: {error}")
        try:
            batch = json.loads(body)
            if not isinstance(batch, list):
                raise TypeError("not an array")
            batch = [(envelope["log"], envelope["seq"], envelope["event"]) for envelope in batch]
        except (ValueError, KeyError, TypeError) as error:
            return self.refuse(400, f"not an array of envelopes: {error!r}")
        try:
            with self.working:
                self.deal_with(batch)
        except OSError as error:
            return self.refuse(500, str(error))
        self.send_response(204)
        self.end_headers()

    def deal_with(self, batch):
        # A batch belongs to one log.
        if batch:
            self.cursor.enter(batch[0][0])
        last = self.cursor.seq
        for _, seq, event in batch:
            if seq > last:
                # Your work here. If the program dies before the cursor is written, the work is
                # repeated for the batch, so make it idempotent: for example, write rows under the
                # events' ids.
                print(seq, event["id"], flush=True)
                last = seq
        # Advance after the work and before the response, so that a repeat is recognised.
        if last > self.cursor.seq:
            self.cursor.advance(last)

    def refuse(self, status, reason):
        self.log_error("answered %d: %s", status, reason)
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(reason.encode())))
        self.send_header("Connection", "close")  # the body may not have been read
        self.end_headers()
        self.wfile.write(reason.encode())

    def log_request(self, *_):
        """Does not log successful requests."""


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

    def enter(self, log):
        """Called with each event's log. In a different log, a number means a different event."""
        if self.log and self.log != log:
            print(f"the log was {self.log} and is {log} now: a backup of the gateway was restored; starting over", file=sys.stderr)
            self.seq = 0
        self.log = log

    def advance(self, seq):
        """The file always contains a whole number, either the old or the new one."""
        temporary = f"{self.path}.new"
        with open(temporary, "w") as file:
            file.write(f"{self.log}:{seq}")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path)
        self.seq = seq


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
