"""Stock, money and parcels, on ports 8001 to 8003 of this machine. Each does a thing once for a key; parcels do not go to XX."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread

ANSWERS = {}  # by port, path and key: what was answered first is answered again
LOCK = Lock()


class Service(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        place = (self.server.server_port, self.path, self.headers["idempotency-key"])
        with LOCK:
            is_first = place not in ANSWERS
            refused = self.path == "/ship" and body["order"].get("country") == "XX"
            number = f"{self.path[1:]}-{len(ANSWERS) + 1}"
            status, answer = ANSWERS.setdefault(place, (422, {"error": "no parcels to XX"}) if refused else (200, {"number": number}))
        print(status, self.path, place[2], "" if is_first else "(again)", flush=True)
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


for port in (8001, 8002, 8003):
    Thread(target=ThreadingHTTPServer(("127.0.0.1", port), Service).serve_forever).start()
