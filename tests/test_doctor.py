"""What `codewell doctor` finds, each time beside what is really so."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from models import DenseConfig, LatentType, Metric
from service.cli import app
from service.client import Client
from service.doctor import machine, running, stored
from service.doctor.command import findings
from service.doctor.finding import Finding, State
from service.keys import Keys
from service.rights import Scope
from service.settings import Settings
from service.store import schema
from service.store.database import Database
from service.store.tables import NoticeRow
from tests.conftest import Server, started_codec
from tests.test_snapshot import made

CODEC = started_codec(DenseConfig(6, LatentType.INT8), Metric.L2)


def found(settings: Settings, check: str) -> list[Finding]:
    return [finding for finding in findings(settings) if finding.check == check]


def states(settings: Settings, check: str) -> list[State]:
    return [finding.state for finding in found(settings, check)]


def test_a_healthy_server_and_its_folder(server: Server) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CODEWELL_")}
    command = [sys.executable, "-m", "service.cli", "doctor", "--json", "--url", server.url]
    command += ["--data-dir", str(server.data_dir)]
    environment = kept | {"CODEWELL_ENCODER": "tfidf"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    told: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, told["ok"]) == (0, True), done.stdout
    checks = {"settings", "packages", "disk", "threads", "files", "database", "keys", "codecs", "memory", "server"}
    assert {finding["check"] for finding in told["findings"]} == checks
    fine = [finding["detail"] for finding in told["findings"] if finding["state"] == "ok"]
    assert f"{server.url} is ready" in fine
    assert any(detail.startswith(f"SQLite of schema {schema.newest()} answers in") for detail in fine)
    assert not list(server.data_dir.glob(".doctor*"))


def test_a_failure_is_exit_code_1_and_says_what_to_do(tmp_path: Path) -> None:
    environment = {"CODEWELL_DATA_DIR": str(tmp_path), "CODEWELL_SPEED": "9"}
    done = CliRunner().invoke(app, ["doctor", "--host", "0.0.0.0"], env=environment)  # noqa: S104
    assert done.exit_code == 1, done.stdout
    lines = done.stdout.splitlines()
    failed = lines.index("fail  keys      keys are needed, and none is valid")
    assert lines[failed + 1].strip() == "-> make one: codewell key create --name admin --scope admin"
    assert "warn  settings  there is no setting CODEWELL_SPEED" in lines


def test_a_wrong_setting_is_named_without_what_was_given() -> None:
    given = {"CODEWELL_DATABASE_URL": "postgresql://me:secret@x/y", "CODEWELL_DATABASE_PASSWORD_FILE": "file"}
    for environment, named in ((given, "DATABASE_PASSWORD_FILE needs"), ({"CODEWELL_PORT": "-1"}, "CODEWELL_PORT: ")):
        done = CliRunner().invoke(app, ["doctor"], env=environment)
        assert (done.exit_code, named in done.stderr, "secret" in done.output) == (1, True, False), done.output


def test_the_database(database_url: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=database_url)
    (finding,) = found(settings, "database")
    assert finding.state is State.OK
    assert "the first start makes" in finding.detail
    database = Database(database_url)
    schema.upgrade(database)
    assert f"of schema {schema.newest()} answers" in found(settings, "database")[0].detail
    with database.writing() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
    (finding,) = found(settings, "database")
    assert finding.state is State.WARN
    assert finding.detail.endswith(f"of schema 0001; this program's is {schema.newest()}")
    with database.writing() as session:
        session.connection().exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    (finding,) = found(settings, "database")
    assert (finding.state, finding.advice) == (State.FAIL, "install the newer Codewell again")
    database.close()


def test_a_database_that_cannot_be_reached_is_named_without_its_password(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url="postgresql://me:secret@127.0.0.1:1/x")
    (finding,) = found(settings, "database")
    assert finding.state is State.FAIL
    assert "refused" in finding.detail
    assert "secret" not in str(finding)


def test_codecs_snapshots_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data_dir=tmp_path)
    place = made(settings.database, settings.snapshots_dir, CODEC)
    kept = place.snapshot()
    (finding,) = found(settings, "codecs")
    assert finding == Finding("codecs", State.OK, "1 published codecs load; 1 snapshots of codes")
    monkeypatch.setattr(stored, "available_memory", lambda: 2**40)
    assert states(settings, "memory") == [State.OK]
    monkeypatch.setattr(stored, "available_memory", lambda: 1000)
    (finding,) = found(settings, "memory")
    assert finding.state is State.WARN
    (kept / "manifest.json").write_text("{")
    with place.database.writing() as session:
        session.connection().exec_driver_sql("UPDATE generations SET codec = x'00'")
    codec, snapshot, whole = found(settings, "codecs")
    assert (codec.state, snapshot.state, whole.detail) == (
        State.FAIL,
        State.WARN,
        "0 published codecs load; 0 snapshots of codes",
    )
    assert codec.detail.startswith("that of c cannot be loaded")
    assert str(kept) in snapshot.detail
    place.database.close()


def test_keys(tmp_path: Path) -> None:
    everywhere = "0.0.0.0"  # noqa: S104
    settings = Settings(data_dir=tmp_path)
    assert states(settings, "keys") == [State.OK], "none are needed here"
    assert states(Settings(data_dir=tmp_path, host=everywhere), "keys") == [State.FAIL]
    assert states(Settings(data_dir=tmp_path, host=everywhere, first_key_file=tmp_path / "k"), "keys") == [State.OK]
    assert states(Settings(data_dir=tmp_path, host=everywhere, auth="off"), "keys") == [State.WARN]
    database = Database(settings.database)
    schema.upgrade(database)
    key = Keys(database).create("soon over", Scope.READ, None, 86_400).key
    ok, expiring = found(settings, "keys")
    assert (ok.state, ok.detail, expiring.state) == (State.OK, "1 valid keys", State.WARN)
    assert expiring.detail == f"the key {key.id} (soon over) expires in 1.0 days"
    Keys(database).revoke(key.id)
    assert states(settings, "keys") == [State.FAIL], "once there was a key, keys stay needed"
    database.close()


def test_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cores = machine.available_cores()
    settings = Settings(data_dir=tmp_path, threads=cores)
    monkeypatch.setattr(machine, "SLOW_FSYNC_MS", 60_000)
    assert states(settings, "disk")[1:] == [State.OK], "the fsync"
    monkeypatch.setattr(machine, "SLOW_FSYNC_MS", 0)
    assert states(settings, "disk")[1:] == [State.WARN]
    monkeypatch.setattr(machine, "SCARCE_DISK", 2**60)
    assert states(settings, "disk")[0] is State.FAIL
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores))
    assert states(settings, "threads") == [State.OK]
    monkeypatch.setenv("OMP_NUM_THREADS", str(cores + 1))
    (finding,) = found(settings, "threads")
    assert finding.state is State.WARN
    assert finding.detail.startswith(f"OMP_NUM_THREADS is {cores + 1}, and there are {cores} cores")


def test_a_container_s_limits_count(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 10 kB\nMemAvailable: 4000 kB\n")
    free = machine.available_memory(tmp_path, tmp_path / "meminfo")
    assert free == 4_096_000
    (tmp_path / "memory.max").write_text("3000000\n")
    (tmp_path / "memory.current").write_text("1000000\n")
    assert machine.available_memory(tmp_path, tmp_path / "meminfo") == 2_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.available_memory(tmp_path, tmp_path / "meminfo") == free
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert machine.available_cores(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.available_cores(tmp_path) == len(os.sched_getaffinity(0))


def test_a_server_that_lags_or_asks_for_a_key(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    with Client("http://127.0.0.1:1") as nowhere:
        (finding,) = running.answers(nowhere)
    assert finding.state is State.FAIL
    assert "no server at http://127.0.0.1:1" in finding.detail
    with Client(server.url) as client:
        told = 'codewell_view_lag_seconds{collection="c"} 61.5\ncodewell_jobs{kind="train",state="failed"} 2.0\n'
        monkeypatch.setattr(client, "metrics", lambda: told)
        ready, lag, failed = running.answers(client)
    assert (ready.state, lag.state, failed.state) == (State.OK, State.WARN, State.WARN)
    assert lag.detail == "the views of c have been behind for 62 s"
    assert failed.detail == "2 jobs failed"


def test_the_webhook(tmp_path: Path) -> None:
    quiet = Settings(data_dir=tmp_path)
    told = Settings(data_dir=tmp_path, webhook_url="https://ops.example", webhook_secret_file=tmp_path / "secret")
    database = Database(quiet.database)
    schema.upgrade(database)
    assert found(quiet, "webhook") == []
    assert states(told, "webhook") == [State.FAIL, State.OK]
    (tmp_path / "secret").write_text("24 bytes of text, at least")
    assert found(told, "webhook") == [Finding("webhook", State.OK, "no notice waits")]
    for minutes, state in ((59, State.OK), (90, State.WARN)):
        with database.writing() as session:
            at = time.time() - 60 * minutes
            session.add(NoticeRow(message_id=f"msg_{minutes}", body="{}", created_at=at, attempts=9, next_at=at))
        assert states(told, "webhook") == states(quiet, "webhook") == [state]
    (late,) = found(told, "webhook")
    assert late.detail == "2 notices wait, the oldest for 1.5 hours"
    assert "it must be 2xx, within 10 seconds" in (late.advice or "")
    assert "CODEWELL_WEBHOOK_URL was set once" in (found(quiet, "webhook")[0].advice or "")
    database.close()
