"""Listens on TCP, and processes and acknowledges every event that a gateway sends.

    python3 consume_tcp.py 127.0.0.1:9000 cursor.txt

prints the number and the id of each new event. The gateway needs a sink in its configuration:

    [[output.tcp]]
    name = "archive"
    address = "127.0.0.1:9000"
    framing = "ndjson"
    ack = true
    start = "oldest"
"""

import json
import os
import select
import socket
import sys

LINE_BYTES_MAX = 32 * 2**20
ACK_SECONDS_MAX = 10


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: consume_tcp.py ADDRESS STATE_FILE")
    cursor = Cursor(sys.argv[2])
    listener = listen(sys.argv[1])
    gateway, received = None, bytearray()
    while True:
        readable, _, _ = select.select([listener, gateway] if gateway else [listener], [], [])
        try:
            if listener in readable:
                # Only the newest connection counts: a gateway that reconnects has abandoned the old
                # connection. If the gateway's machine or the network failed, we are never told.
                if gateway:
                    gateway.close()
                gateway, peer = listener.accept()
                gateway.settimeout(ACK_SECONDS_MAX)
                received.clear()
                say(f"connected: {peer}")
            else:
                take(gateway, received, cursor)
        except OSError as error:
            # The gateway reconnects and continues after the last acknowledged event.
            say(f"disconnected: {error}")
            if gateway:
                gateway.close()
                gateway = None


def take(gateway, received, cursor):
    """Reads the available bytes, processes complete lines, and keeps the rest."""
    chunk = gateway.recv(65536)
    if not chunk:
        raise ConnectionError("the connection ended" + (" in the middle of a line" if received else ""))
    received += chunk
    if b"\n" in chunk:
        *lines, rest = received.split(b"\n")
        received[:] = rest
        for line in lines:
            seq = deal_with(line, cursor)
            gateway.sendall(b'{"ack":%d}\n' % seq)
    if len(received) > LINE_BYTES_MAX:
        raise ConnectionError("a line is longer than 32 MiB")


def deal_with(line, cursor):
    """Processes an event, unless it is a repeat, and returns the sequence to acknowledge."""
    try:
        envelope = json.loads(line)
        log, seq, event = envelope["log"], envelope["seq"], envelope["event"]
    except (ValueError, KeyError, TypeError):
        raise ConnectionError(f"a line is not an envelope: {bytes(line[:200])}") from None
    cursor.enter(log)
    if seq > cursor.seq:
        # Your work here. If the program dies before the cursor is written, the work is repeated for
        # this event, so make it idempotent: for example, write a row under the event's id.
        print(seq, event["id"], flush=True)
        # Advance after the work and before the acknowledgement, so that a repeat is recognised. An
        # fsync for each event is simple. If that is too slow, store and acknowledge every hundredth
        # event.
        cursor.advance(seq)
    return seq


def listen(address):
    host, _, port = address.rpartition(":")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host.strip("[]"), int(port)), family=family)
    except (OSError, ValueError) as error:
        sys.exit(f"cannot listen on {address}: {error}")


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

    def enter(self, log):
        """Called with each event's log. In a different log, a number means a different event."""
        if self.log and self.log != log:
            say(f"the log was {self.log} and is {log} now: a backup of the gateway was restored; starting over")
            self.seq = 0
        self.log = log

    def advance(self, seq):
        """The file always contains a whole number, either the old or the new one."""
        temporary = f"{self.path}.new"
        try:
            with open(temporary, "w") as file:
                file.write(f"{self.log}:{seq}")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except OSError as error:
            sys.exit(f"cannot write {self.path}: {error}")
        self.seq = seq


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
