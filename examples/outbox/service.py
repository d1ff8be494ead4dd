"""A service with an outbox, on port 8000 of this machine. Its database is SQLite, in memory."""

import json
import sqlite3
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

DB = sqlite3.connect(":memory:")
DB.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
DB.execute("CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, body TEXT)")


def order(item):
    """The order and the word of it are there together, or not at all."""
    with DB:
        number = DB.execute("INSERT INTO orders (item) VALUES (?)", (item,)).lastrowid
        body = json.dumps({"order": number, "item": item})
        DB.execute("INSERT INTO outbox (key, body) VALUES (?, ?)", (str(number), body))


class Service(BaseHTTPRequestHandler):
    def do_GET(self):
        limit = int(parse_qs(urlsplit(self.path).query)["limit"][0])
        rows = DB.execute("SELECT id, key, body FROM outbox ORDER BY id LIMIT ?", (limit,))
        self.answer([{"id": id, "key": key, "body": json.loads(body)} for id, key, body in rows])

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/outbox/confirmed":
            with DB:
                DB.executemany("DELETE FROM outbox WHERE id = ?", [(id,) for id in body["ids"]])
        else:
            order(body["item"])
        self.answer({})

    def answer(self, value):
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


for item in ("tea", "milk", "sugar"):
    order(item)
HTTPServer(("127.0.0.1", 8000), Service).serve_forever()
