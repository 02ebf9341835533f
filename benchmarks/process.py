"""A real `codewell serve` as its processes: what they are, and what kills them. Knows nothing of what is measured."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import httpx

START_SECONDS = 120


class Server:
    """Started at once, over `folder`, with settings as keywords; a context that waits until it answers."""

    program: ClassVar[str] = "service.cli"

    def __init__(self, folder: Path, workers: int = 1, **settings: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        given = {"DATA_DIR": str(folder), "PORT": str(port), "WORKERS": str(workers), "ENCODER": "none"} | settings
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CODEWELL_")}
        environment |= {f"CODEWELL_{name}": value for name, value in given.items()}
        self.workers = workers
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "server.log"
        self.began = time.monotonic()
        with self.log.open("ab") as output:
            command = [sys.executable, "-m", self.program, "serve"]
            self.process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=output, start_new_session=True
            )

    def __enter__(self) -> "Server":
        self.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait(self) -> None:
        """Until it can answer."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"the server did not become ready; see {self.log}")

    def stop(self) -> None:
        """Ends it in order."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()

    def kill(self) -> None:
        """Ends it with all its workers and jobs, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def answering(self) -> list[int]:
        """The processes that answer requests, as many of them as there are by now."""
        if self.workers == 1:
            return [self.process.pid]
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def post(self, path: str, body: Any) -> Any:
        """The JSON that is answered, which must be a success; over a connection of its own: any worker may answer."""
        answer = httpx.post(f"{self.url}{path}", json=body, timeout=300)
        if not answer.is_success:
            raise RuntimeError(f"{path}: {answer.status_code} {answer.text}")
        return answer.json()

    def get(self, path: str) -> Any:
        """Likewise."""
        return httpx.get(f"{self.url}{path}", timeout=300).raise_for_status().json()
