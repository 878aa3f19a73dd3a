"""A stand-in for the Hugging Face Hub on this machine: the few answers that down- and uploads ask for, from a folder
tree.
"""

import base64
import hashlib
import json
import os
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit


class Hub:
    """Serves ``root``/models/OWNER/NAME/… and ``root``/datasets/OWNER/NAME/… as ``HF_ENDPOINT=url``, while the block
    lasts.

    refused: repository ("OWNER/NAME") → 401 (it does not say whether there is such a one) or 403 (gated); cut: file
    name → how many bytes of it are sent before the connection breaks, once; requests: what was asked, "METHOD /path"
    and the range of bytes, if one was.
    """

    def __init__(self, root):
        self.root, self.refused, self.cut, self.requests = Path(root), {}, {}, []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def environment(self, cache, offline=False):
        """The variables of a process that knows this hub and no other, its cache in a folder."""
        mine = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
        return (
            {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "TRANSFORMERS_OFFLINE"))}
            | mine
            | ({"HF_HUB_OFFLINE": "1"} if offline else {})
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        address = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        self.hub.requests.append(" ".join(filter(None, (self.command, self.path, self.headers.get("Range")))))
        if address.path == "/api/repos/create":
            return self.create(json.loads(body))
        kinds, name, rest = "(models|datasets)", "([^/]+/[^/]+)", "(?:/(.*))?"
        if found := re.fullmatch(f"/api/{kinds}/{name}{rest}", unquote(address.path)):
            return self.of(
                *found.groups()[:2],
                lambda repo: self.about(repo, found[2], found[3] or "", parse_qs(address.query), body),
            )
        if found := re.fullmatch(f"/(?:(datasets)/)?{name}/resolve/[^/]+/(.+)", unquote(address.path)):
            return self.of(found[1] or "models", found[2], lambda repo: self.file(repo, found[3]))
        self.answer(404, b"{}")

    do_HEAD = do_POST = do_GET

    def of(self, kind, name, serve):
        """Serve a repository, unless there is none or it is refused."""
        repo, refused = self.hub.root / kind / name, self.hub.refused.get(name)
        if refused or not repo.is_dir():  # the hub says 401 of what is not there, too
            return self.answer(
                refused or 401,
                b'{"error": "no access"}',
                {"X-Error-Code": "GatedRepo" if refused == 403 else "RepoNotFound"},
            )
        serve(repo)

    def about(self, repo, name, what, query, body):
        files = {str(p.relative_to(repo)): p.read_bytes() for p in sorted(repo.rglob("*")) if p.is_file()}
        entry = lambda path: {"type": "file", "path": path, "size": len(files[path]), "oid": oid(files[path])}
        folders = {str(parent) for path in files for parent in Path(path).parents if str(parent) != "."}
        everything = [
            *map(entry, files),
            *({"type": "directory", "path": f, "oid": oid(f.encode())} for f in sorted(folders)),
        ]
        verb, _, rest = what.partition("/")
        if verb == "preupload":  # no large file storage: all in the commit
            found = {
                "files": [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
            }
        elif verb == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    target = repo / line["value"]["path"]
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(base64.b64decode(line["value"]["content"]))
            found = {
                "success": True,
                "commitOid": commit(repo),
                "commitUrl": f"{self.hub.url}/{name}/commit/{commit(repo)}",
            }
        elif verb in ("", "revision"):
            found = {
                "id": name,
                "sha": commit(repo),
                "siblings": [{"rfilename": f} for f in files],
                "private": False,
                "gated": False,
                "tags": [],
            }
        elif verb == "tree":
            below = rest.partition("/")[2]
            found = [
                e
                for e in everything
                if e["path"].startswith(below + "/" if below else "")
                and (
                    query.get("recursive", ["false"])[0].lower() in ("1", "true")
                    or "/" not in e["path"].removeprefix(below).strip("/")
                )
            ]
        elif verb == "paths-info":
            asked = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
            found = [e for e in everything if e["path"] in asked]
        else:
            return self.answer(404, b"{}")
        self.answer(200, json.dumps(found).encode())

    def create(self, asked):
        name = "/".join(filter(None, (asked.get("organization"), asked["name"])))
        if refused := self.hub.refused.get(name):
            return self.answer(refused, b'{"error": "no access"}')
        (self.hub.root / f"{asked['type']}s" / name).mkdir(parents=True, exist_ok=True)
        self.answer(200, json.dumps({"url": f"{self.hub.url}/{asked['type']}s/{name}"}).encode())

    def file(self, repo, path):
        if not (repo / path).is_file():
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit(repo)})
        data = (repo / path).read_bytes()
        first = int(re.fullmatch(r"bytes=(\d+)-.*", self.headers.get("Range", "bytes=0-"))[1])
        headers = {"ETag": f'"{oid(data)}"', "X-Repo-Commit": commit(repo), "Accept-Ranges": "bytes"}
        headers |= {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}"} if first else {}
        self.answer(
            206 if first else 200,
            data[first:],
            headers,
            self.hub.cut.pop(path, None) if self.command == "GET" else None,
        )

    def answer(self, code, data, headers=None, cut=None):
        self.send_response(code)
        basic = {"Content-Type": "application/json", "Content-Length": str(len(data))}
        for name, value in (basic | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, *_):
        pass


def commit(repo):
    """The only revision of a repository's folder: what it holds now."""
    return oid("".join(f"{p}{oid(p.read_bytes())}" for p in sorted(repo.rglob("*")) if p.is_file()).encode())


def oid(data):
    """The name git gives a file of these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
