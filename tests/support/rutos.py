"""A router with RutOS, by Python's own HTTP server and TLS: `rutos.py [CERTIFICATE KEY]`.

Prints `fingerprint SHA256` when it has a certificate, and `listening PORT`. Each line of standard input is a path and
what stands there from then on, as JSON; each request that does something is printed, `POST /api/… {…}`, and so is each
login. Whoever has no session is told so as RutOS does.
"""

import hashlib
import json
import secrets
import ssl
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PASSWORD = "secret-of-the-router"
data = {}
tokens = set()


def error(code):
    return {"success": False, "errors": [{"code": code, "error": "refused", "source": "rutos.py"}]}


def one(path):
    if path in data:
        return 200, {"success": True, "data": data[path]}
    return 404, error(100)


class Router(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def serve(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = json.loads(body) if body else {}
        if self.path == "/api/unauthorized/status":
            return self.answer(200, {"success": True, "data": {"api_version": "1.16.1"}})
        if self.path == "/api/login":
            print("login", flush=True)
            if asked.get("password") != PASSWORD:
                return self.answer(401, error(121))
            token = secrets.token_hex(16)
            tokens.add(token)
            said = {"username": asked["username"], "token": token, "expires": 299}
            return self.answer(200, {"success": True, "data": said})
        if self.headers.get("Authorization", "").removeprefix("Bearer ") not in tokens:
            return self.answer(401, error(123))
        if self.path == "/api/logout":
            return self.answer(200, {"success": True, "data": {}})
        if self.path == "/api/session/status":
            return self.answer(200, {"success": True, "data": {"active": True}})
        if self.path == "/api/bulk":
            rows = [one(row["endpoint"])[1] for row in asked["data"]]
            return self.answer(207, {"success": True, "data": rows})
        if self.command == "GET":
            return self.answer(*one(self.path))
        print(self.command, self.path, json.dumps(asked), flush=True)
        return self.answer(200, {"success": True, "data": {}})

    do_GET = do_POST = do_PUT = serve

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


server = Server(("127.0.0.1", 0), Router)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with open(sys.argv[1]) as file:
        der = ssl.PEM_cert_to_DER_cert(file.read())
    print("fingerprint", hashlib.sha256(der).hexdigest(), flush=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print("listening", server.server_address[1], flush=True)
for line in sys.stdin:
    path, said = line.split(" ", 1)
    data[path] = json.loads(said)
