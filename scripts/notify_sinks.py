"""A mail server, a receiver of webhooks that checks their signatures, and a room that takes connections and says
nothing: scripts/notify.sh talks to them. Writes their ports into the folder that is its argument, and prints what
arrives. Nothing but Python's own library.
"""

import base64
import email
import email.policy
import hashlib
import hmac
import json
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(sys.argv[1])
PRINTING = threading.Lock()


def show(kind, text):
    with PRINTING:
        print(f"=== {kind}\n" + "\n".join("    " + line for line in text.splitlines()), flush=True)


class Mail(socketserver.StreamRequestHandler):
    """RFC 5321, as far as it goes here."""

    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")

    def handle(self):
        self.say("220 sink")
        for line in self.rfile:
            verb = line.strip().upper()
            if verb == b"DATA":
                self.say("354 go on")
                lines = []
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(line)
                mail = email.message_from_bytes(b"".join(lines), policy=email.policy.default)
                head = f"To: {mail['to']}\nSubject: {mail['subject']}\nContent-Type: {mail['content-type']}\n\n"
                show("MAIL", head + mail.get_content())
            elif verb == b"QUIT":
                self.say("221 bye")
                return
            self.say("250 ok")


class Hook(BaseHTTPRequestHandler):
    """Checks what Standard Webhooks has a receiver check."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        key = base64.b64decode((FOLDER / "ca/hook-secret").read_text().strip().removeprefix("whsec_"))
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
        good = "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
        fresh = abs(time.time() - int(self.headers["webhook-timestamp"])) < 60
        word = "signature holds" if good == self.headers["webhook-signature"] and fresh else "signature WRONG"
        told = json.loads(body)
        show("WEBHOOK", f"{told['type']}, {self.headers['webhook-id']}, {word}\n\n{told['data']['text']}")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Room(socketserver.BaseRequestHandler):
    """Hangs."""

    def handle(self):
        while self.request.recv(4096):
            pass


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True


here = ("127.0.0.1", 0)
servers = [Server(here, Mail), ThreadingHTTPServer(here, Hook), Server(here, Room)]
for server in servers:
    threading.Thread(target=server.serve_forever, daemon=True).start()
# Whole or not at all: it is waited for.
(FOLDER / "ports.new").write_text(" ".join(str(server.server_address[1]) for server in servers) + "\n")
(FOLDER / "ports.new").rename(FOLDER / "ports")
threading.Event().wait()
