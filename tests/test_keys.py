"""API keys without a server: what is made, kept, refused and revoked, over both databases; the commands."""

import hmac
import json
import os
import re
import shlex
import sqlite3
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from service.catalog import Catalog
from service.cli import app
from service.errors import CodewellError, InvalidInput, KeyNotFound, Unauthorized
from service.first_key import made_first_key
from service.keys import MOST_COLLECTIONS, Keys
from service.rights import Allowance, Rights, Scope
from service.store import schema
from service.store.database import Database
from tests.conftest import SERVE


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    made = Database(database_url)
    schema.upgrade(made)
    yield made
    made.close()


def test_a_key_is_checked_by_what_the_database_has_now(database: Database, database_url: str) -> None:
    keys = Keys(database)
    assert not keys.exist()
    other = Database(database_url)  # as another process
    made = Keys(other).create("reader", Scope.READ, ["b", "a", "b"], seconds=3600)
    assert keys.exist(), "at the next request"
    assert keys.check(made.token) == Rights(Scope.READ, frozenset({"a", "b"}), Allowance(made.key.id))
    (listed,) = keys.list()
    assert listed == made.key
    assert (listed.collections, listed.state(time.time())) == (["a", "b"], "active")
    assert listed.expires_at == pytest.approx(time.time() + 3600, abs=60)

    Keys(other).revoke(listed.id)
    with pytest.raises(Unauthorized):
        keys.check(made.token)
    revoked = keys.list()[0]
    assert revoked.state(time.time()) == "revoked"
    Keys(other).revoke(listed.id)
    assert keys.list() == [revoked], "the first time counts"
    assert keys.exist(), "revoking the last key opens nothing"
    with pytest.raises(KeyNotFound):
        keys.revoke("0" * 12)
    other.close()


def test_whatever_is_wrong_with_a_key_the_answer_and_the_steps_are_the_same(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = Keys(database)
    good, other = keys.create("good", Scope.ADMIN).token, keys.create("other", Scope.ADMIN).token
    expired = keys.create("expired", Scope.ADMIN, seconds=1e-6).token
    _, key_id, secret = good.split("_", 2)
    compared = []
    real = hmac.compare_digest

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    wrong = {
        "": "nothing",
        f"cw_{key_id}_{'A' * 43}": "another secret",
        f"cw_{key_id}_{other.split('_', 2)[2]}": "the secret of another key",
        f"cw_{'0' * 12}_{secret}": "an unknown id",
        f"cw_{key_id}_{secret[:-1]}": "cut",
        f"{good}A": "longer",
        f"{good}\n": "a line end",
        f" {good}": "a space",
        good.upper(): "another case",
        good.replace("cw_", "cw_\u0661", 1): "a digit of another script",
        f"cw_{key_id}_{secret[:-1]}\u00e9": "no ASCII",
        f"cw_{key_id}_' OR '1'='1{secret[11:]}": "SQL",
        "cw_" * 100_000: "huge",
        expired: "expired",
    }
    said = set()
    for token, what in wrong.items():
        with pytest.raises(Unauthorized) as refusal:
            assert not keys.check(token), what
        said.add(str(refusal.value))
    assert said == {"the API key is not valid: it is unknown, expired or revoked"}
    assert compared == [(32, 32)] * len(wrong), "each is compared once, whether there is such a key or not"
    assert keys.check(good) == Rights(Scope.ADMIN, None, Allowance(good[3:15]))


def test_what_no_key_can_be_made_of_is_named(database: Database) -> None:
    Catalog(database, {}, threading.BoundedSemaphore(), 16, None).create("whole", dimension=2)
    Catalog(database, {}, threading.BoundedSemaphore(), 16, None).point_alias("moving", "whole")
    many = [f"c{n}" for n in range(MOST_COLLECTIONS + 1)]
    keys = Keys(database)
    for name, collections, seconds, field in (
        ("", None, None, "name"),
        ("a\nb", None, None, "name"),
        ("x" * 129, None, None, "name"),
        ("x", [], None, "collections"),
        ("x", ["*"], None, "collections"),
        ("x", ["a", "b c"], None, "collections"),
        ("x", ["whole", "moving"], None, "collections"),
        ("x", many, None, "collections"),
        ("x", None, 0, "expires_in"),
        ("x", None, -1, "expires_in"),
        ("x", None, float("nan"), "expires_in"),
        ("x", None, float("inf"), "expires_in"),
    ):
        with pytest.raises(InvalidInput) as refusal:
            keys.create(name, Scope.READ, collections, seconds)
        assert refusal.value.field == field, name
    assert not keys.exist()


def test_no_secret_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "codewell.db"
    database = Database(f"sqlite:///{file}")
    schema.upgrade(database)
    made = Keys(database).create("x", Scope.READ)
    database.close()
    kept = b"".join(part.read_bytes() for part in tmp_path.iterdir())
    assert made.key.id.encode() in kept
    assert made.token.split("_", 2)[2].encode() not in kept
    assert made.token not in repr(made)
    with sqlite3.connect(file) as connection:
        (digest,) = connection.execute("SELECT digest FROM keys").fetchone()
    assert len(digest) == 32


def test_of_servers_that_start_together_one_makes_the_first_key(database: Database, tmp_path: Path) -> None:
    files = [tmp_path / f"key-{n}" for n in range(4)]
    made: list[Path] = []
    together = threading.Barrier(len(files))

    def start(file: Path) -> None:
        together.wait()
        if made_first_key(database, file):
            made.append(file)

    threads = [threading.Thread(target=start, args=[file]) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert sorted(tmp_path.glob("key-*")) == made
    assert made[0].stat().st_mode & 0o777 == 0o600
    token = made[0].read_text()
    assert Keys(database).check(token.strip()) == Rights(Scope.ADMIN, None, Allowance(token[3:15]))
    assert not made_first_key(database, made[0])
    assert made[0].read_text() == token


def test_a_first_key_replaces_one_that_never_counted_and_nothing_else(database: Database, tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("a diary")
    with pytest.raises(ValueError, match="something else than an API key"):
        made_first_key(database, file)
    assert (file.read_text(), Keys(database).exist()) == ("a diary", False)
    file.write_text("cw_of_a_start_that_was_cut_off")
    file.with_name("key.part").write_text("cw_")
    assert made_first_key(database, file)
    assert Keys(database).check(file.read_text().strip()).scope is Scope.ADMIN
    assert sorted(tmp_path.glob("key*")) == [file]


# the commands


def key(*arguments: str) -> Result:
    """`codewell key` without a terminal."""
    return CliRunner().invoke(app, ["key", *arguments], env={"COLUMNS": "120"})


def test_a_server_that_others_reach_refuses_to_start_and_names_the_command_that_mends_it(tmp_path: Path) -> None:
    folder = tmp_path / "my data"
    serve = [*SERVE, "--host", "0.0.0.0", "--port", "0", "--data-dir", str(folder)]  # noqa: S104
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CODEWELL_")}
    refused = subprocess.run(serve, env=clean, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert "others can reach 0.0.0.0, and there is no API key" in refused.stderr
    assert "CODEWELL_AUTH=off" in refused.stderr
    (command,) = re.findall("`(.*?)`", refused.stderr)
    made = key(*shlex.split(command)[2:])
    assert (made.exit_code, made.stderr) == (0, "")

    database = Database(f"sqlite:///{folder / 'codewell.db'}")
    keys = Keys(database)
    assert keys.check(made.stdout.strip()) == Rights(Scope.ADMIN, None, Allowance(made.stdout[3:15]))
    limited = keys.create("limited", Scope.READ, ["a", "b"])
    (admin,) = (one for one in keys.list() if one.id != limited.key.id)
    there = ("--data-dir", str(folder))
    revoked = key("revoke", admin.id, *there)
    assert revoked.stdout == f"key {admin.id} is revoked\n"
    with pytest.raises(CodewellError):
        keys.check(made.stdout.strip())
    database.close()

    table = [re.split(r"\s*│\s*", line.strip("│ ")) for line in key("list", *there).stdout.splitlines()]
    rows = {row[0]: row[1:] for row in table}
    made_at = [f"{datetime.fromtimestamp(one.created_at, UTC):%Y-%m-%d %H:%M}" for one in (admin, limited.key)]
    assert rows[admin.id] == ["admin", "admin", "all", made_at[0], "never", "revoked"]
    assert rows[limited.key.id] == ["limited", "read", "a b", made_at[1], "never", "active"]
    shown = json.loads(key("list", "--json", *there).stdout)["keys"]
    assert [(one["name"], one["state"]) for one in shown] == [("admin", "revoked"), ("limited", "active")]


def test_wrong_usage_of_the_commands_is_said_in_one_line(tmp_path: Path) -> None:
    nothing = key("list", "--data-dir", str(tmp_path / "none"))
    assert (nothing.exit_code, "there is no database in" in nothing.stderr) == (1, True)
    create = ("create", "--name", "x", "--scope", "read", "--data-dir", str(tmp_path))
    star = key(*create, "--collection", "*")
    assert (star.exit_code, "'*' is no name of a collection" in star.stderr) == (1, True), star.stderr
    length = key(*create, "--expires", "soon")
    assert (length.exit_code, "12h, 30d and 8w" in length.stderr) == (2, True), length.stderr
    for option, wrong, said in (("--rate", "50", "50/s, 100/m and 1000/h"), ("--max-bytes", "10 GB", "500MB and 10GB")):
        refused = key(*create, option, wrong)
        assert (refused.exit_code, said in refused.stderr) == (2, True), refused.stderr
    limits = ("--rate", "90/m", "--max-items", "100000", "--max-bytes", "2GB")
    made = json.loads(key(*create, *limits, "--collection", "a", "--expires", "2h", "--json").stdout)
    assert [made[name] for name in ("rate", "max_items", "max_bytes")] == [1.5, 100_000, 2_000_000_000]
    assert made["expires_at"] - made["created_at"] == pytest.approx(7200)
    assert (made["scope"], made["collections"]) == ("read", ["a"])
    assert re.fullmatch(rf"cw_{made['id']}_[\w-]{{43}}", made["key"])
    unknown = key("revoke", made["key"], "--data-dir", str(tmp_path))
    assert unknown.exit_code == 1
    assert made["key"] not in unknown.output, "a key given for its id is not repeated"
