"""A stand-in for the Hugging Face hub on this machine: what is committed can be fetched again."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Holds one version of every repository."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.private: dict[str, bool] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Answers as the hub's own documentation of its API says."""

    server: Hub

    def log_message(self, format: str, *arguments: Any) -> None:
        """Be quiet."""

    def answer(self, content: Any, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(200)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
            self.server.files.setdefault(name, {})
            self.server.private[name] = asked.get("visibility") == "private"
            self.answer({"url": f"{self.server.url}/{name}", "name": name, "id": name})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            paths = [file["path"] for file in json.loads(body)["files"]]
            modes = [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]
            self.answer({"files": modes})
        elif match := re.match(r"/api/models/(.+)/commit/main", self.path):
            for line in body.splitlines():
                operation = json.loads(line)
                if operation["key"] == "file":
                    value = operation["value"]
                    content = base64.b64decode(value["content"])
                    self.server.files[match[1]][value["path"]] = content
            url = f"{self.server.url}/{match[1]}/commit/{COMMIT}"
            self.answer({"success": True, "commitOid": COMMIT, "commitUrl": url})
        else:
            self.send_error(404)

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        api = re.match(r"/api/models/([^/]+/[^/]+)(/revision/|/tree/|$)", path)
        file = re.match(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)$", path)
        files = self.server.files.get(api[1] if api else file[1] if file else "")
        if files is None:
            self.send_error(404)
        elif file:
            digest = hashlib.sha256(files[file[2]]).hexdigest()
            self.answer(files[file[2]], ETag=f'"{digest}"', X_Repo_Commit=COMMIT)
        elif api and api[2] == "/tree/":
            names = files.items()
            self.answer(
                [{"type": "file", "path": p, "size": len(c), "oid": COMMIT} for p, c in names]
            )
        else:
            siblings = [{"rfilename": p, "size": len(c)} for p, c in files.items()]
            self.answer({"id": api and api[1], "sha": COMMIT, "siblings": siblings, "tags": []})

    do_HEAD = do_GET  # noqa: N815


@contextmanager
def local_hub(cache: Path) -> Iterator[Hub]:
    """Let huggingface_hub talk to a stand-in, and keep what it fetches in ``cache``."""
    from huggingface_hub import constants

    hub = Hub()
    Thread(target=hub.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        yield hub
    hub.shutdown()
    hub.server_close()
