"""A guestbook in three parts, which find each other by name: `guestbook.py frontend|primary|replica`.

The frontend writes to the primary and reads from the replicas; replicas make themselves known to the primary, which hands
on to each of them what is written. It stands in for the guestbook of Kubernetes' conformance programme.
"""

import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit
from urllib.request import urlopen

PORT = 8000
part = sys.argv[1]
entries = {}
replicas = set()


def ask(host, path):
    with urlopen(f"http://{host}/{path}", timeout=10) as answer:
        return answer.read().decode()


def answer(path, query, client):
    if part == "frontend" and path == "/set":
        return ask("primary", "set?" + query)
    if part == "frontend" and path == "/get":
        return ask("replica", "get?" + query)
    if path == "/join":
        replicas.add(client)
    if path == "/set":
        entries.update(parse_qsl(query))
        for replica in replicas:
            ask(f"{replica}:{PORT}", "set?" + query)
        return f"written to {len(replicas)} replicas"
    return entries.get(dict(parse_qsl(query)).get("key"), "")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        body = answer(url.path, url.query, self.client_address[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def join():
    while True:
        try:
            return ask("primary", "join")
        except OSError:
            time.sleep(0.2)


if part == "replica":
    threading.Thread(target=join, daemon=True).start()
ThreadingHTTPServer(("", PORT), Handler).serve_forever()
