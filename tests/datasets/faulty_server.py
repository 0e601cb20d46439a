"""A server of files on this machine with faults on request: each mode is one way in which servers fail or stall."""

import email.utils
import gzip
import hashlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LONG_AGO = "Mon, 01 Jan 2024 00:00:00 GMT"
BLOCK = 1 << 14
SILENCE = 100  # seconds that a silent server stays silent


class FaultyServer(ThreadingHTTPServer):
    """Serves `files` by ranges; change `mode`, `validators` or the files while it runs.

    Attributes
    ----------
    mode : str
        "right", or the name of a fault: see `_send`. `after` responses are right before it begins.
    validators : set of {"etag", "weak", "modified"}
        Headers that identify versions of a file.
    log : list of dict
        The headers of every request, and its path.
    pause : float
        Seconds between two blocks of a body.
    obeys_conditions : bool
        Whether it sends the whole file where `If-Range` names another version.
    """

    daemon_threads = True

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.mode, self.validators, self.log = dict(files), "right", {"etag"}, []
        self.pause, self.after, self.target, self.modified, self.obeys_conditions = 0, 0, None, LONG_AGO, True
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_):
        """Ignore clients that disconnect, as some tests do."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.log.append(dict(self.headers) | {"path": self.path})
        self.mode = server.mode if len(server.log) > server.after else "right"
        if self.mode == "silent from the start":
            time.sleep(SILENCE)
        content = server.files.get(self.path.partition("?")[0].strip("/"))
        if content is None:
            return self._reply(404, {}, b"none")
        if self.mode == "login page":
            return self._reply(200, {}, b"<!DOCTYPE html><html>Please log in</html>")
        if self.mode == "circle":
            return self._reply(302, {"Location": server.url + self.path})
        if self.mode == "elsewhere":
            return self._reply(302, {"Location": server.target + self.path})
        if self.mode == "no address":
            return self._reply(302, {"Location": "file:///etc/passwd"})
        if self.mode == "busy":
            return self._reply(503, {"Retry-After": email.utils.formatdate(time.time() + 7200, usegmt=True)})
        return self._serve(content)

    def _serve(self, content):
        headers = self._validators(content)
        asked = self.headers.get("Range")
        condition = self.headers.get("If-Range")
        fails = condition not in (None, headers.get("ETag"), headers.get("Last-Modified"))
        if fails and self.server.obeys_conditions and self.mode != "no If-Range":
            asked = None
        if asked is None or self.mode == "no ranges":
            return self._send(200, headers, content)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, end = int(first), min(int(last or len(content)), len(content) - 1) + 1
        if start >= len(content) or self.mode == "416":
            return self._reply(416, {"Content-Range": f"bytes */{len(content)}"})
        total = len(content) + 5 * (self.mode == "wrong total")
        named = start + 7 * (self.mode == "wrong start")
        shift = min(3, start) if self.mode == "shifted" else 0
        headers["Content-Range"] = f"bytes {named}-{end - 1}/{total}"
        return self._send(206, headers, content[start - shift : end - shift])

    def _validators(self, content):
        tag, kinds = f'"{hashlib.md5(content).hexdigest()}"', self.server.validators
        headers = {"ETag": tag} if "etag" in kinds else {"ETag": f"W/{tag}"} if "weak" in kinds else {}
        return headers | ({"Last-Modified": self.server.modified} if "modified" in kinds else {})

    def _send(self, status, headers, body):
        length = len(body)
        if self.mode == "compressed":
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
            length = len(body)
        elif self.mode == "length too short":
            length //= 2
        elif self.mode == "length too long":
            length += 1000
        chunked = self.mode in ("chunked", "chunked and cut")
        headers |= {"Transfer-Encoding": "chunked"} if chunked else {"Content-Length": str(length)}
        self._start(status, headers)
        if self.mode in ("chunked and cut", "cut", "silent"):
            body = body[: len(body) // 2]
        size, pause = (1, 0.5) if self.mode == "dripping" else (BLOCK, self.server.pause)
        for begin in range(0, len(body), size):
            piece = body[begin : begin + size]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            time.sleep(pause)
        if self.mode == "chunked":
            self.wfile.write(b"0\r\n\r\n")
        if self.mode == "silent":
            time.sleep(SILENCE)
        if self.mode in ("chunked and cut", "cut", "length too long", "length too short"):
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def _reply(self, status, headers, body=b""):
        self._start(status, headers | {"Content-Length": str(len(body))})
        self.wfile.write(body)

    def _start(self, status, headers):
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
