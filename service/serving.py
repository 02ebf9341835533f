"""Runs the HTTP server: a socket, a log, an orderly end. Knows no command line and no route."""

import errno
import logging.config
import multiprocessing
import os
import shlex
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING

from service.client import is_loopback
from service.cluster.placement import Placement
from service.cores import share_cores
from service.heaps import keep_trimmed, share_heaps
from service.log import log_config
from service.settings import Settings

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from service.store.database import Database

log = logging.getLogger(__name__)

BACKLOG = 2048
HANGING_SECONDS = 20
"""A worker that does not answer its supervisor for so long is replaced; one that dies while it is asked, no sooner."""
GRACE_SECONDS = 10
"""Requests get this long to end after Ctrl-C or SIGTERM."""


class CannotServe(Exception):
    """The server cannot start; the message is one line."""


def run(
    settings: Settings,
    say: Callable[[str], object],
    folder: Path | None = None,
    placement: Placement | None = None,
) -> None:
    """Serves until Ctrl-C or SIGTERM; `say` is told the address once the server answers there. With `folder`, a built
    one, that alone is served, here or by the cluster of `placement`.

    Raises:
        CannotServe
    """
    share_cores(settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises the signal again after an orderly end
    with _listening(settings) as listener:
        host, port = listener.getsockname()[:2]
        settings = settings.model_copy(update={"host": host})  # a name's address says who can reach it
        if settings.log_format == "json":  # then so is what is said before the server logs anything
            logging.config.dictConfig(log_config(settings.log_level, settings.log_format))
            say = _logged
        for name in Settings.unknown():
            say(f"WARNING: there is no setting {name}; it is ignored")
        if folder is None:
            _check_storage(settings, say)
            _check_webhook(settings)
        else:
            _check_folder(settings, folder, placement, say)
        address = f"[{host}]" if ":" in host else host
        greeting = f"Codewell {version('codewell')} listens on http://{address}:{port} (Ctrl-C stops it)"
        config = _config(settings, folder, placement)
        if settings.workers == 1:
            _serve_alone(config, listener, lambda: say(greeting))
        else:
            _serve_together(config, listener, lambda: say(greeting))


def _logged(said: str) -> None:
    """What is said at the start, as a line of the log."""
    warning = said.removeprefix("WARNING: ")
    log.log(logging.INFO if warning == said else logging.WARNING, "%s", warning)


def _serve_alone(config: "uvicorn.Config", listener: socket.socket, started: Callable[[], object]) -> None:
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                started()

    server = Server(config)
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        return
    if not server.started:
        raise CannotServe("the server did not start; the lines above say why")


def _serve_together(config: "uvicorn.Config", listener: socket.socket, started: Callable[[], object]) -> None:
    """Workers share the socket; one that ends is replaced."""
    from prometheus_client.multiprocess import mark_process_dead
    from uvicorn.config import STARTUP_FAILURE
    from uvicorn.supervisors import Multiprocess

    from service.metrics import SHARED

    class Workers(Multiprocess):
        greeted = False
        counted: set[int | None] = set()  # noqa: RUF012 - replaced, never changed

        def handle_hup(self) -> None:
            """The terminal was closed: as for one process, that is the end."""
            self.handle_term()

        def keep_subprocess_alive(self) -> None:
            super().keep_subprocess_alive()
            living = {worker.pid for worker in self.processes}
            for pid in self.counted - living:
                mark_process_dead(pid)  # type: ignore[no-untyped-call]  # what it counted stays, what it held is gone
            self.counted = living
            if not self.greeted and all(worker.is_ready() for worker in self.processes):
                self.greeted = True
                started()

    with TemporaryDirectory(prefix="codewell-metrics-") as folder:
        # Read when a worker imports the library: a process's numbers go to a file there, and any worker adds them up.
        os.environ[SHARED] = folder
        workers = Workers(config, [listener])
        workers.run()
    if any(worker.exitcode == STARTUP_FAILURE for worker in workers.processes):
        raise CannotServe("a worker did not start; the lines above say why")


def _config(settings: Settings, folder: Path | None, placement: Placement | None) -> "uvicorn.Config":
    import uvicorn

    from service.api.protocol import BoundedProtocol

    return uvicorn.Config(
        partial(_application, settings, folder, placement),
        factory=True,
        http=partial(  # type: ignore[arg-type] # it is only called
            BoundedProtocol, head_seconds=settings.head_seconds, most=settings.max_connections
        ),
        workers=settings.workers,
        log_config=log_config(settings.log_level, settings.log_format),
        log_level=settings.log_level,
        access_log=False,  # api/signals.py tells more
        timeout_graceful_shutdown=GRACE_SECONDS,
        timeout_worker_healthcheck=HANGING_SECONDS,
    )


def _application(settings: Settings, folder: Path | None, placement: Placement | None) -> "FastAPI":
    """Called in the process that serves; a worker ends with its supervisor, however that ends."""
    share_heaps()
    keep_trimmed()
    supervisor = multiprocessing.parent_process()
    if supervisor is not None:

        def follow() -> None:
            supervisor.join()
            os.kill(os.getpid(), signal.SIGTERM)

        Thread(target=follow, name="supervisor-watch", daemon=True).start()
    if folder is not None:
        from service.api.read_only import create_read_only_app

        return create_read_only_app(settings, folder, placement)
    from service.api.app import create_app

    return create_app(settings)


def _listening(settings: Settings) -> socket.socket:
    """A socket that takes connections; they wait until the server is there."""
    try:
        found = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        family, kind, protocol, _, address = found[0]
        # Without its protocol a socket is not TCP to asyncio, which then leaves out TCP_NODELAY: 40 ms an answer.
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotServe(f"{settings.host!r} is no address of this machine: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotServe(f"port {settings.port} of {settings.host} is in use; choose another by --port") from error
        raise CannotServe(f"cannot listen on port {settings.port} of {settings.host}: {error}") from error
    return listener


def _check_storage(settings: Settings, say: Callable[[str], object]) -> None:
    """Opens the data folder and the database once, so that what is wrong with them is one line and no traceback."""
    from sqlalchemy.exc import SQLAlchemyError

    from service.errors import CodewellError
    from service.store import schema
    from service.store.database import Database

    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        settings.jobs_dir.mkdir(exist_ok=True)
        next(settings.jobs_dir.iterdir(), None)
    except OSError as error:
        raise CannotServe(f"the data folder {settings.data_dir} cannot be used: {error.strerror}") from error
    try:
        database = Database(settings.database)
        try:
            schema.upgrade(database)
            _check_keys(settings, database, say)
        finally:
            database.close()
    except (SQLAlchemyError, CodewellError, OSError, ValueError, ImportError) as error:
        cause = error.__cause__ or error  # what the driver says tells a wrong password from a missing database
        reason = getattr(cause, "orig", None) or cause
        where = "of CODEWELL_DATABASE_URL" if settings.database_url else settings.data_dir / "codewell.db"
        raise CannotServe(f"the database {where} cannot be used: {str(reason).splitlines()[0]}") from error


def _check_webhook(settings: Settings) -> None:
    """Reads the secret once: a webhook that cannot sign would tell nothing."""
    try:
        _ = settings.webhook_key
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CannotServe(
            f"CODEWELL_WEBHOOK_SECRET_FILE {settings.webhook_secret_file} cannot be used: {reason}"
        ) from error


def _check_folder(settings: Settings, folder: Path, placement: Placement | None, say: Callable[[str], object]) -> None:
    """Finds what is wrong with a built folder before there is a traceback; keys are kept in a database, which it has
    not.
    """
    from service.builds.manifest import Manifest
    from service.errors import CodewellError

    if not is_loopback(settings.host):
        if settings.auth != "off":
            raise CannotServe(
                f"others can reach {settings.host}, and there is no database that had API keys: listen on 127.0.0.1 "
                "behind a proxy that asks for one, or let everyone in by CODEWELL_AUTH=off"
            )
        say(f"WARNING: {settings.host} can be reached from other machines, and CODEWELL_AUTH is off")
    try:
        manifest = Manifest.load(folder)
        manifest.check(folder)
        if placement is not None:
            from service.cluster.deployment import Deployment

            Deployment(folder, manifest, placement)
    except (CodewellError, OSError) as error:
        raise CannotServe(str(error)) from error


def _check_keys(settings: Settings, database: "Database", say: Callable[[str], object]) -> None:
    """Makes the first key where that is set; a server that others can reach does not start without one."""
    from service.first_key import made_first_key
    from service.keys import Keys, demanded

    if settings.auth == "off":
        if not is_loopback(settings.host):
            say(f"WARNING: {settings.host} can be reached from other machines, and CODEWELL_AUTH is off")
        return
    if settings.first_key_file is not None:
        try:
            made = made_first_key(database, settings.first_key_file)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CannotServe(f"CODEWELL_FIRST_KEY_FILE {settings.first_key_file} cannot be used: {reason}") from error
        if made:
            say(f"A first API key, of scope admin, is in {settings.first_key_file}")
    if demanded(settings) and not Keys(database).exist():
        why = "CODEWELL_AUTH is keys" if is_loopback(settings.host) else f"others can reach {settings.host}"
        where = "" if settings.database_url else f" --data-dir {shlex.quote(str(settings.data_dir))}"
        raise CannotServe(
            f"{why}, and there is no API key: make one by `codewell key create --name admin --scope admin{where}`, or "
            "let everyone in by CODEWELL_AUTH=off"
        )
