"""Tells a process that another one may have committed. Knows no table: what changed is for the reader to find out."""

import time
from typing import Protocol

from sqlalchemy import Connection, Engine, PoolProxiedConnection

MISSED_SECONDS = 0.5
"""A notification that was missed is made up for by looking this often."""


class Signal(Protocol):
    """Belongs to one thread. It may come for nothing; it never stays away for long."""

    def wait(self, seconds: float) -> bool:
        """Waits for about `seconds`; whether anything may have changed since the last time."""

    def close(self) -> None:
        """Gives its connection up."""


class PollingSignal:
    """SQLite: a number that differs once another connection has committed."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: PoolProxiedConnection | None = None
        self._seen: int | None = None

    def wait(self, seconds: float) -> bool:
        """Sleeps, then looks."""
        time.sleep(seconds)
        if self._connection is None:
            self._connection = self._engine.raw_connection()
        cursor = self._connection.cursor()
        cursor.execute("PRAGMA data_version")
        (version,) = cursor.fetchone() or (0,)
        changed, self._seen = version != self._seen, version
        return changed

    def close(self) -> None:
        """Gives its connection back."""
        if self._connection is not None:
            self._connection.close()


class PostgresSignal:
    """PostgreSQL: every commit notifies. That ends the wait, and nothing hangs on it: what it missed is looked for."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None

    def wait(self, seconds: float) -> bool:
        """Returns at the first notification, or after the time; true in both cases."""
        if self._connection is None:
            self._connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            self._connection.exec_driver_sql("LISTEN codewell")
            return True
        try:
            driver = self._connection.connection.driver_connection
            list(driver.notifies(timeout=max(seconds, MISSED_SECONDS), stop_after=1))  # type: ignore[union-attr]
        except Exception:
            self.close()
            raise
        return True

    def close(self) -> None:
        """Gives its connection up: one that listens must not go back to the pool."""
        if self._connection is not None:
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
