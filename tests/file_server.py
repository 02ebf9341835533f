"""Files of a folder over HTTP, with ranges and ETags; it can be told to misbehave. Knows nothing of Codewell."""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any


class FileServer:
    """On a port of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ranged = True
        self.tells = True
        """Whether answers have ETags."""
        self.breaks_after: int | None = None
        """Bytes of file content after which each answer breaks off."""
        self.user = ""
        """`USER:PASSWORD` that is asked for."""
        self.sent: Counter[str] = Counter()
        """Bytes by path."""
        self.asked: list[tuple[str, str]] = []
        """Methods, and paths with their queries."""
        served = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                served._answer(self)

            def do_HEAD(self) -> None:
                served._answer(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        name = request.path.partition("?")[0].strip("/")
        self.asked.append((request.command, request.path))
        path = self.folder / name
        expected = f"Basic {base64.b64encode(self.user.encode()).decode()}"
        status, content, headers = 200, b"", {}
        if self.user and request.headers.get("Authorization") != expected:
            status = 401
        elif path.is_dir():
            content = "".join(f'<a href="/{name}/{one.name}">x</a>' for one in path.iterdir()).encode()
        elif not path.is_file():
            status = 404
        else:
            content = path.read_bytes()
            headers = {"ETag": f'"{hashlib.md5(content).hexdigest()}"'} if self.tells else {}  # noqa: S324
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("Range", ""))
            if found and self.ranged:
                begin, end = int(found[1]), min(int(found[2]) + 1, len(content))
                headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
                status, content = 206, content[begin:end]
        request.send_response(status)
        for header, value in headers.items():
            request.send_header(header, value)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        if request.command == "HEAD":
            return
        cut = path.is_file() and self.breaks_after is not None and len(content) > self.breaks_after
        request.wfile.write(content[: self.breaks_after] if cut else content)
        request.close_connection = request.close_connection or bool(cut)
        self.sent[name] += len(content)


@contextmanager
def file_server(folder: Path) -> Iterator[FileServer]:
    """Serves until the block ends."""
    files = FileServer(folder)
    thread = Thread(target=files.server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield files
    finally:
        files.server.shutdown()
        thread.join()
        files.server.server_close()
