"""What can be wrong with the database and what is in it, one check each. Changes nothing; knows no HTTP."""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing

from sqlalchemy import func, select

from models import CodecError, load_codec
from service.client import is_loopback
from service.doctor.finding import GB, Finding, State
from service.doctor.machine import available_memory
from service.errors import SnapshotRefused
from service.index import snapshot
from service.keys import Key, Keys, demanded
from service.notices import Notices
from service.settings import Settings
from service.snapshots import Snapshots
from service.store import schema
from service.store.database import Database
from service.store.tables import CollectionRow, GenerationRow

LITTLE_MEMORY = GB
"""Bytes that Python and its libraries, and a training, should find free."""
CONNECTIONS = 20
"""That a process may keep to PostgreSQL."""
SOON = 7 * 86_400
"""Seconds before a key expires."""
LATE = 3_600
"""Seconds after which a notice should have been taken."""
ROW_BYTES = 9
"""A row id and its share of tables, beside each code."""


def tables(settings: Settings) -> Iterator[Finding]:
    """Whether the database answers, how fast, and of which schema it is."""
    file = settings.database_file
    if file is not None and not file.exists():
        yield Finding("database", State.OK, f"{file} is not there yet; the first start makes it")
        yield from keys(settings, [])
        return
    with closing(Database(settings.database)) as database:
        try:
            known, newest = schema.known(database), schema.newest()
        except schema.SchemaTooNew as error:
            yield Finding("database", State.FAIL, str(error), "install the newer Codewell again")
            return
        began = time.perf_counter()
        with database.reading() as session:
            session.scalar(select(1))
        took = 1000 * (time.perf_counter() - began)
        kind = "SQLite" if database.is_sqlite else "PostgreSQL"
        if known is None:
            yield Finding("database", State.OK, f"{kind} without tables yet; the first start makes them")
            yield from keys(settings, [])
            return
        if known != newest:
            advice = "make a backup (codewell snapshot, of the version that made it); the next start migrates it"
            yield Finding("database", State.WARN, f"{kind} of schema {known}; this program's is {newest}", advice)
            return
        yield Finding("database", State.OK, f"{kind} of schema {known} answers in {took:.1f} ms")
        if not database.is_sqlite:
            yield from _connections(settings, database)
        yield from keys(settings, Keys(database).list())
        yield from codecs(settings, database)
        yield from memory(settings, database)
        yield from webhook(settings, database)


def _connections(settings: Settings, database: Database) -> Iterator[Finding]:
    with database.reading() as session:
        most = int(session.connection().exec_driver_sql("SHOW max_connections").scalar_one())
    wanted = CONNECTIONS * (settings.workers + settings.max_jobs)
    advice = (
        None if most >= wanted else f"set PostgreSQL's max_connections to {wanted} for each server, or fewer workers"
    )
    state = State.OK if most >= wanted else State.WARN
    yield Finding("database", state, f"{most} connections; this server may keep {wanted}", advice)


def codecs(settings: Settings, database: Database) -> Iterator[Finding]:
    """Whether every published codec loads, and what there is of snapshots."""
    published = select(CollectionRow.id, CollectionRow.name, GenerationRow.codec).join(
        GenerationRow, GenerationRow.id == CollectionRow.generation_id
    )
    snapshots, loaded, kept = Snapshots(settings.snapshots_dir, database), 0, 0
    with database.reading() as session:
        for collection_id, name, codec in session.execute(published.execution_options(yield_per=10)):
            try:
                load_codec(codec)
                loaded += 1
            except (CodecError, ValueError, KeyError, TypeError, RuntimeError) as error:
                advice = f"codewell rollback --collection {name}, or train it again, or restore a backup"
                yield Finding("codecs", State.FAIL, f"that of {name} cannot be loaded: {error}", advice)
            for one in snapshots.listed(collection_id):
                try:
                    snapshot.manifest_of(one.folder)
                    kept += 1
                except SnapshotRefused as refused:
                    advice = "nothing is lost: the next start sets it aside and reads the database"
                    yield Finding("codecs", State.WARN, f"the snapshot {one.folder}: {refused}", advice)
    yield Finding("codecs", State.OK, f"{loaded} published codecs load; {kept} snapshots of codes")


def memory(settings: Settings, database: Database) -> Iterator[Finding]:
    """RAM against what the codes of all collections take, were every one of them searched."""
    size = func.coalesce(func.length(GenerationRow.codec), 0)
    statement = select(CollectionRow.row_count, CollectionRow.dimension, GenerationRow.certificate, size).outerjoin(
        GenerationRow, GenerationRow.id == CollectionRow.generation_id
    )
    need = 0
    with database.reading() as session:
        for rows, dimension, certificate, codec in session.execute(statement):
            need += codec + rows * ((certificate or {}).get("code_bytes", 4 * dimension) + ROW_BYTES)
    need *= settings.workers
    free = available_memory()
    if free < need + LITTLE_MEMORY:
        advice = "fewer bytes a code, fewer workers, or more RAM; with a server running its own share counts as taken"
        told = f"{free / GB:.1f} GB are free; codes and codecs take up to {need / GB:.2f}, libraries and trainings 1"
        yield Finding("memory", State.WARN, told, advice)
    else:
        yield Finding("memory", State.OK, f"{free / GB:.1f} GB are free; codes and codecs take {need / GB:.2f} at most")


def webhook(settings: Settings, database: Database) -> Iterator[Finding]:
    """Whether its endpoint takes what it is told; nothing where nobody is told and nothing waits."""
    wanted = settings.webhook_url is not None
    waiting = Notices(database, wanted=wanted).waiting()
    try:
        _ = settings.webhook_key
    except (OSError, ValueError) as error:
        yield Finding("webhook", State.FAIL, str(error), "write a secret to CODEWELL_WEBHOOK_SECRET_FILE")
    if waiting.since is None:
        if wanted:
            yield Finding("webhook", State.OK, "no notice waits")
        return
    hours = (time.time() - waiting.since) / 3_600
    told = f"{waiting.number} notices wait, the oldest for {hours:.1f} hours"
    advice = (
        "the server's log says how the endpoint answered: it must be 2xx, within 10 seconds"
        if wanted
        else "CODEWELL_WEBHOOK_URL was set once: set it again, and they are sent"
    )
    late = time.time() - waiting.since > LATE
    yield Finding("webhook", State.WARN if late else State.OK, told, advice if late else None)


def keys(settings: Settings, found: Sequence[Key]) -> Iterator[Finding]:
    """Whether an address that others reach is guarded, and whether keys are about to expire."""
    now = time.time()
    active = [key for key in found if key.state(now) == "active"]
    if settings.auth == "off":
        if is_loopback(settings.host):
            yield Finding("keys", State.OK, f"off, and {settings.host} is this machine only")
        else:
            advice = "set CODEWELL_AUTH=keys, unless a proxy that others cannot go around lets only some in"
            yield Finding("keys", State.WARN, f"everyone who reaches {settings.host} may do everything", advice)
        return
    if not found and settings.first_key_file is not None:
        yield Finding("keys", State.OK, f"the first start writes one to {settings.first_key_file}")
        return
    if not active and (demanded(settings) or found):
        advice = "make one: codewell key create --name admin --scope admin"
        yield Finding("keys", State.FAIL, "keys are needed, and none is valid", advice)
        return
    if not found:
        yield Finding("keys", State.OK, f"none are needed on {settings.host} until one is made")
        return
    yield Finding("keys", State.OK, f"{len(active)} valid keys")
    for key in active:
        if key.expires_at is not None and key.expires_at - now < SOON:
            days = (key.expires_at - now) / 86_400
            advice = "make its successor now: codewell key create"
            yield Finding("keys", State.WARN, f"the key {key.id} ({key.name}) expires in {days:.1f} days", advice)
