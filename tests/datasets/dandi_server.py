"""A DANDI archive on this machine: an API, and blobs on another port as in the real one, with faults to order.

The blobs' server also gives every file below `/files/`, as an http or s3 source does.
"""

import gc
import hashlib
import re
import tempfile
import threading
import time
import urllib.parse
import uuid
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from json import dumps
from pathlib import Path

from dandi.support.digests import get_digest
from dandi.utils import _get_instance

from neurosuper.datasets.manifest import Manifest

DANDISET, VERSION, BUCKET = "000999", "0.261124.1200", "files"
DAY = "2026-11-24T12:00:00Z"


@dataclass
class Fault:
    """How the next request to a server fails: a status, a web page, or a body cut after some bytes."""

    status: int = 200
    headers: dict = field(default_factory=dict)
    cut: int | None = None
    page: bool = False


@dataclass
class Request:
    """A request to a server."""

    method: str
    path: str
    query: dict
    headers: dict


class Server(ThreadingHTTPServer):
    """A server on a free port, with the requests it got, the bytes of bodies it sent, and its next faults.

    Bodies may be paced (bytes per second); their end is marked by "length", "chunked" or "none".
    """

    daemon_threads = True

    def __init__(self, answer):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer, self.requests, self.faults, self.sent = answer, [], deque(), 0
        self.pace, self.framing, self.headers = None, "length", {}
        self.busy = self.busiest = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def asked(self, path, method=None):
        """Return the requests to paths with a prefix."""
        return [r for r in self.requests if r.path.startswith(path) and method in (None, r.method)]

    def handle_error(self, request, client_address):
        """Ignore clients that disconnect, as some tests do."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_GET(self):
        parts = urllib.parse.urlsplit(self.path)
        query = {key: values[0] for key, values in urllib.parse.parse_qs(parts.query).items()}
        request = Request(self.command, urllib.parse.unquote(parts.path), query, dict(self.headers))
        self.server.requests.append(request)
        fault = self.server.faults.popleft() if self.server.faults else Fault()
        if fault.page:
            self._send(200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>Please log in</html>")
        elif fault.status != 200:
            self._send(fault.status, fault.headers, b"trouble")
        else:
            self._send(*self.server.answer(request), cut=fault.cut)

    do_HEAD = do_GET  # noqa: N815

    def _send(self, status, headers, body, cut=None):
        framing = self.server.framing if status == 200 else "length"
        self.send_response(status)
        for name, value in (headers | self.server.headers).items():
            self.send_header(name, value)
        if framing == "length":
            self.send_header("Content-Length", str(len(body)))
        elif framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if self.command != "HEAD":
            self.server.busy += 1
            self.server.busiest = max(self.server.busy, self.server.busiest)
            self._send_body(body[:cut], framing == "chunked", whole=cut is None)
            self.server.busy -= 1
        self.close_connection = self.close_connection or cut is not None or framing == "none"

    def _send_body(self, body, chunked, *, whole):
        block = 1 << 14
        for start in range(0, len(body), block):
            piece = body[start : start + block]
            self.server.sent += len(piece)
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
            if self.server.pace:
                time.sleep(block / self.server.pace)
        if chunked and whole:
            self.wfile.write(b"0\r\n\r\n")


class Archive:
    """An archive of files; change its attributes while it runs.

    Attributes
    ----------
    api, blobs : Server
        `blobs.sent` counts the bytes of files that were sent; `requests` of both are what they were asked.
    files : dict of path to bytes
    digests : dict of path to dict, or None
        Digests in the metadata; by default the true ones.
    key : str or None
        API key without which the dandiset cannot be read.
    published, minimum_client, ranges, etag, lifetime
        Whether there is a published version; lowest version of dandi; whether ranges and ETags are given; how many
        requests of a blob one signature is good for.
    """

    def __init__(self, files):
        self.files, self.key, self.published, self.minimum_client = dict(files), None, True, "0.1.0"
        self.ranges = self.etag = True
        self.lifetime, self.uses, self.total = None, {}, None
        self.ids = {path: str(uuid.uuid5(uuid.NAMESPACE_URL, path)) for path in files}
        self.digests = {path: digests_of(content) for path, content in files.items()}
        self.zarrs, self.content_urls_first = set(), "api"

    def __enter__(self):
        _get_instance.cache_clear()  # dandi caches instances by address, and ports are reused
        gc.disable()  # collecting h5py objects in a server's thread can deadlock with h5py's lock
        self.api, self.blobs = Server(self._answer_api), Server(self._answer_blob)
        return self

    def __exit__(self, *_):
        for server in (self.api, self.blobs):
            server.shutdown()
            server.server_close()
        gc.enable()

    @property
    def requests(self):
        return self.api.requests + self.blobs.requests

    def forget(self):
        """Reset all counts."""
        for server in (self.api, self.blobs):
            server.requests.clear()
            server.sent = 0

    def manifest(self, *paths, version=VERSION, **changes):
        """Return a manifest of files of this archive's dandiset."""
        source = {"kind": "dandi", "dandiset": DANDISET, "version": version, "instance": f"{self.api.url}/api"}
        return make_manifest(source | changes.pop("source", {}), paths, **changes)

    def http_manifest(self, *paths, **changes):
        """Return a manifest of files at http addresses."""
        source = {"kind": "http", "url": f"{self.blobs.url}/{BUCKET}"}
        return make_manifest(source | changes.pop("source", {}), paths, **changes)

    def s3_manifest(self, *paths, **changes):
        """Return a manifest of files in a bucket."""
        source = {"kind": "s3", "bucket": BUCKET, "endpoint": self.blobs.url}
        return make_manifest(source | changes.pop("source", {}), paths, **changes)

    def _answer_api(self, request):
        if request.path == "/api/info/":
            return self._json(self._info())
        if not request.path.startswith("/api/"):
            return self._json({"detail": "Not found."}, 404)
        if self.key is not None and request.headers.get("Authorization") != f"token {self.key}":
            return self._json({"detail": "Authentication credentials were not provided."}, 401)
        match request.path.removeprefix("/api/").strip("/").split("/"):
            case ["auth", "token"]:
                return self._json({"token": self.key})
            case ["dandisets", identifier] if identifier == DANDISET:
                return self._json(self._dandiset())
            case ["dandisets", identifier, "versions", version, "assets"] if self._has(identifier, version):
                return self._json(self._list(request))
            case ["dandisets", identifier, "versions", version, "assets", asset] if self._has(identifier, version):
                return self._json(self._metadata(asset))
            case ["assets", asset, "download"]:
                return 302, {"Location": self._sign(asset)}, b""
        return self._json({"detail": "Not found."}, 404)

    def _has(self, identifier, version):
        return identifier == DANDISET and version in ([VERSION] if self.published else []) + ["draft"]

    @staticmethod
    def _json(content, status=200):
        return status, {"Content-Type": "application/json"}, dumps(content).encode()

    def _info(self):
        return {
            "schema_version": "0.7.0",
            "version": "0.20.0",
            "services": {"api": {"url": f"{self.api.url}/api"}},
            "cli-minimal-version": self.minimum_client,
            "cli-bad-versions": [],
        }

    def _dandiset(self):
        about = {"name": "planted", "asset_count": len(self.files), "size": 1, "created": DAY, "modified": DAY}
        published = about | {"version": VERSION, "status": "Published"}
        return {
            "identifier": DANDISET,
            "created": DAY,
            "modified": DAY,
            "contact_person": "A. Person",
            "embargo_status": "OPEN" if self.key is None else "EMBARGOED",
            "most_recent_published_version": published if self.published else None,
            "draft_version": about | {"version": "draft", "status": "Valid"},
        }

    def _list(self, request):
        """List like the real archive: case is ignored, and `*` also matches "/"."""
        query = request.query
        glob, start = query.get("glob"), query.get("path", "")
        names = [name for name in self.files if name.lower().startswith(start.lower())]
        if glob is not None:
            pattern = re.escape(glob).replace(r"\*", ".*")
            names = [name for name in names if re.fullmatch(pattern, name, re.IGNORECASE)]
        page, per_page = int(query.get("page", 1)), 2
        here = names[(page - 1) * per_page : page * per_page]
        more = f"{self.api.url}{request.path}?" + urllib.parse.urlencode(
            {key: value for key, value in query.items() if key != "page"} | {"page": page + 1}
        )
        results = [self._entry(name) for name in here]
        return {
            "count": len(names),
            "next": more if page * per_page < len(names) else None,
            "previous": None,
            "results": results,
        }

    def _entry(self, name):
        kind = "zarr" if name in self.zarrs else "blob"
        size = len(self.files[name])
        return {"asset_id": self.ids[name], kind: self.ids[name], "path": name, "size": size} | dict.fromkeys(
            ("created", "modified"), DAY
        )

    def _path_of(self, asset):
        return next(path for path, identifier in self.ids.items() if identifier == asset)

    def _metadata(self, asset):
        path = self._path_of(asset)
        urls = [f"{self.api.url}/api/assets/{asset}/download/", f"{self.blobs.url}/blobs/{asset}"]
        return {
            "path": path,
            "contentSize": len(self.files[path]),
            "digest": self.digests[path],
            "contentUrl": urls if self.content_urls_first == "api" else urls[::-1],
        }

    def _sign(self, asset):
        signature = f"secret{len(self.uses)}"
        self.uses[signature] = 0
        return f"{self.blobs.url}/blobs/{asset}?signature={signature}"

    def _answer_blob(self, request):
        kind, _, name = request.path.lstrip("/").partition("/")
        if kind == "blobs":
            name = self._path_of(name)
            signature = request.query.get("signature")
            self.uses[signature] = self.uses.get(signature, 0) + 1
            if self.lifetime is not None and self.uses[signature] > self.lifetime:
                return 403, {}, b"<Error><Code>AccessDenied</Code><Message>Request has expired</Message></Error>"
        if name not in self.files:
            return 404, {}, b"none"
        return self._in_part(request, self.files[name])

    def _in_part(self, request, content):
        headers = {"Content-Type": "application/octet-stream"}
        tag = f'"{hashlib.md5(content).hexdigest()}"'
        if self.etag:
            headers["ETag"] = tag
        asked = request.headers.get("Range", "")
        if not (self.ranges and asked) or request.headers.get("If-Range", tag) != tag:
            return 200, headers, content
        first, _, last = asked.removeprefix("bytes=").partition("-")
        if int(first) >= len(content):
            return 416, {"Content-Range": f"bytes */{len(content)}"}, b""
        end = min(int(last) + 1 if last else len(content), len(content))
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(content)}"
        return 206, headers, content[int(first) : end]


def digests_of(content):
    """Return the digests of an asset in the form of DANDI's metadata."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "asset")
        path.write_bytes(content)
        return {"dandi:sha2-256": get_digest(path, "sha256"), "dandi:dandi-etag": get_digest(path, "dandi-etag")}


def make_manifest(source, paths, **changes):
    """Return a valid manifest of a source and paths; `changes` replace or add keys."""
    content = {
        "schema_version": 1,
        "id": "planted",
        "title": "Planted",
        "species": "Macaca mulatta",
        "modality": "spikes",
        "areas": ["V4"],
        "doi": "unverified",
        "licence": "CC0-1.0",
        "citation": "A. Person 2026",
        "homepage": "http://localhost/about",
        "loader": "load_nwb",
        "source": source,
        "files": [{"path": path} for path in paths],
        "stimulus": {"label": "name of the image"},
        "response": {"measure": "rate", "units": "spikes/s", "noise_ceiling": {"rule": "none"}},
        "images": {"loader": "none", "obtain": "ask"},
    }
    return Manifest.model_validate(content | changes)
