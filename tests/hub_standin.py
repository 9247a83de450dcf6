"""A small Hugging Face hub on 127.0.0.1 that the tests download from, and that fails on demand.

It speaks the part of the protocol that huggingface_hub uses for models:

    GET      /api/models/<repo>[/revision/<rev>]     commit and files with sizes and hashes
    GET      /api/models/<repo>/refs                 branches
    HEAD,GET /<repo>/resolve/<rev>/<file>            small files; redirects for large ones
    GET      /blob/<sha256>                          bodies of large files, with ranges

Large files are redirected to the host name `localhost`, so that they come from another host, as in
reality.

    with Hub({"owner/name": {"step0": {"config.json": b"...", "model.bin": b"..."}}}) as hub:
        os.environ["HF_ENDPOINT"] = hub.endpoint
        hub.fail("/api/models/", status=503, times=2)
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import struct
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = (".bin", ".safetensors")  # what the hub keeps in git-lfs


@dataclass
class Fault:
    """The next `times` requests whose "METHOD path" matches `match` go wrong, as the others say."""

    match: str
    times: int
    status: int = 0  # answer with this status
    code: str = ""  # the hub's X-Error-Code
    headers: dict[str, str] = field(default_factory=dict)
    # "cut": close half-way; "reset": so, by TCP reset; "short": half as if whole; "flip": a bit
    body: str = ""


def commit_of(repo: str, revision: str) -> str:
    return hashlib.sha1(f"{repo}@{revision}".encode()).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Hub:
    """Serves `repos[repo][revision][file] = bytes` from `with` on.

    `requests` lists (method, path, Range header). The revisions of repositories in `tagged` are
    tags, but for "main".
    """

    def __init__(self, repos: dict[str, dict[str, dict[str, bytes]]]):
        self.repos = repos
        self.tagged: set[str] = set()
        self.requests: list[tuple[str, str, str | None]] = []
        self.faults: list[Fault] = []
        self.lock = threading.Lock()

    def blob(self, sha256: str) -> bytes:
        """The body of a large file."""
        return next(
            data
            for revisions in self.repos.values()
            for files in revisions.values()
            for name, data in files.items()
            if name.endswith(LARGE) and hashlib.sha256(data).hexdigest() == sha256
        )

    def fail(self, match: str, times: int = 1, **fault) -> None:
        self.faults.append(Fault(match, times, **fault))

    def fault_for(self, request: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.match, request):
                    fault.times -= 1
                    return fault
        return None

    def asked(self, match: str) -> list[tuple[str, str, str | None]]:
        return [
            request for request in self.requests if re.search(match, f"{request[0]} {request[1]}")
        ]

    def __enter__(self) -> Hub:
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path, self.headers.get("Range")))
        self.fault = self.hub.fault_for(f"{self.command} {path}")
        if self.fault and self.fault.status:
            return self.refuse(self.fault.status, self.fault.code, self.fault.headers)
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/refs", path):
            return self.refs(match[1])
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self.info(match[1], match[2] or "main")
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self.resolve(*match.groups())
        if match := re.fullmatch(r"/blob/([0-9a-f]{64})", path):
            return self.send(self.hub.blob(match[1]), {"ETag": f'"{match[1]}"'})
        self.refuse(404, "")

    def refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        self.send(
            json.dumps({"error": code or "refused"}).encode(),
            {"X-Error-Code": code, **(headers or {})},
            status,
        )

    def find(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """(commit, files) of a branch or commit; None after having answered that there is none."""
        if (
            repo not in self.hub.repos
        ):  # the real hub says 401 here, not 404, to who is not logged in
            return self.refuse(401, "RepoNotFound")
        for branch, files in self.hub.repos[repo].items():
            if revision in (branch, commit_of(repo, branch)):
                return commit_of(repo, branch), files
        return self.refuse(404, "RevisionNotFound")

    def refs(self, repo: str) -> None:
        if repo not in self.hub.repos:
            return self.refuse(401, "RepoNotFound")
        refs: dict[str, list] = {"branches": [], "converts": [], "tags": []}
        for name in self.hub.repos[repo]:
            kind, place = "branches", "heads"
            if repo in self.hub.tagged and name != "main":
                kind = place = "tags"
            commit = commit_of(repo, name)
            refs[kind].append({"name": name, "ref": f"refs/{place}/{name}", "targetCommit": commit})
        self.send(json.dumps(refs).encode())

    def info(self, repo: str, revision: str) -> None:
        if (found := self.find(repo, revision)) is None:
            return
        commit, files = found
        siblings = []
        for name, data in files.items():
            sibling = {"rfilename": name, "size": len(data), "blobId": git_sha1(data)}
            if name.endswith(LARGE):
                sibling["lfs"] = {
                    "sha256": hashlib.sha256(data).hexdigest(),
                    "size": len(data),
                    "pointerSize": 130,
                }
            siblings.append(sibling)
        self.send(
            json.dumps({"id": repo, "modelId": repo, "sha": commit, "siblings": siblings}).encode()
        )

    def resolve(self, repo: str, revision: str, name: str) -> None:
        if (found := self.find(repo, revision)) is None:
            return
        commit, files = found
        if name not in files:
            return self.refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
        data = files[name]
        headers = {"X-Repo-Commit": commit}
        if not name.endswith(LARGE):
            return self.send(data, headers | {"ETag": f'"{git_sha1(data)}"'})
        sha256 = hashlib.sha256(data).hexdigest()
        headers |= {"X-Linked-Etag": f'"{sha256}"', "X-Linked-Size": str(len(data))}
        self.send(
            b"", headers | {"Location": f"http://localhost:{self.hub.port}/blob/{sha256}"}, 302
        )

    def send(self, data: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        spoil = self.fault.body if self.fault and status == 200 and self.command == "GET" else ""
        if spoil == "short":
            data = data[: len(data) // 2]
        if spoil == "flip":
            data = data[:-1] + bytes([data[-1] ^ 1])
        headers = dict(headers or {})
        if status == 200 and (
            match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        ):
            start, whole = int(match[1]), len(data)
            status, data = 206, data[start:]
            headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
        self.send_response(status)
        for key, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if spoil in ("cut", "reset"):
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            if spoil == "reset":  # a linger time of 0 makes close() send RST
                self.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                self.connection.close()
            self.close_connection = True
            return
        self.wfile.write(data)
