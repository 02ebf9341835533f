"""What settings make of each other."""

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError
from typer.testing import CliRunner

from service.cli import app
from service.settings import Settings, listed


def test_a_password_in_a_file_goes_into_the_url(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p/w@d\n")
    url = "postgresql://me@db.example:5433/codewell?sslmode=require"
    settings = Settings(database_url=url, database_password_file=file)
    assert settings.database == "postgresql://me:p%2Fw%40d@db.example:5433/codewell?sslmode=require"
    for unfit in (None, "postgresql://db.example/x", "postgresql://me:known@db.example/x"):
        with pytest.raises(ValidationError, match="DATABASE_PASSWORD_FILE needs a CODEWELL_DATABASE_URL"):
            Settings(database_url=unfit, database_password_file=file)


def test_lists_of_origins_and_hosts_are_checked_one_by_one() -> None:
    settings = Settings(
        cors_origins="https://app.example, http://localhost:5173", trusted_hosts="*.example.org,a.example"
    )
    assert listed(settings.cors_origins) == ["https://app.example", "http://localhost:5173"]
    assert listed(settings.trusted_hosts) == ["*.example.org", "a.example"]
    assert listed("") == listed(None) == listed(" , ") == []
    for origins in ("app.example", "https://app.example/", "https://a.example https://b.example"):
        with pytest.raises(ValidationError, match=r"is not an origin like https://app\.example"):
            Settings(cors_origins=origins)
    for hosts in ("https://app.example", "app.example:8000", "*example.org", "a.*.org"):
        with pytest.raises(ValidationError, match=r"is not a name like app\.example"):
            Settings(trusted_hosts=hosts)


SIGNED = "24 bytes of text, at least"


def test_a_webhook_has_a_url_that_can_be_called_and_a_secret(tmp_path: Path) -> None:
    for url in ("https://ops.example/codewell?x=1", "http://me:pw@127.0.0.1:8080", "http://[::1]:8080/"):
        settings = Settings(webhook_url=url, webhook_secret=SecretStr(SIGNED))
        assert (settings.webhook_url, settings.webhook_key) == (url, SIGNED.encode())
    assert Settings().webhook_key == b""
    for unfit in ("", "ops.example", "ftp://ops.example", "file:///etc/passwd", "https://", "http://:80/", "http://a:b/",
                  "http://a:99999", "http://a b/", "http://a/\n", "http://a/#x", "http://[::1/"):  # fmt: skip
        with pytest.raises(ValidationError, match=r"webhook_url\n.*it is no URL like https://ops\.example"):
            Settings(webhook_url=unfit, webhook_secret=SecretStr(SIGNED))
    with pytest.raises(ValidationError, match="CODEWELL_WEBHOOK_URL needs CODEWELL_WEBHOOK_SECRET or"):
        Settings(webhook_url="https://ops.example")
    with pytest.raises(ValidationError, match="are both set"):
        Settings(webhook_secret=SecretStr(SIGNED), webhook_secret_file=tmp_path)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        (
            {"URL": "ops.example/t0ken", "SECRET": SIGNED},
            "codewell: CODEWELL_WEBHOOK_URL: Value error, it is no URL like",
        ),
        ({"URL": "https://a/t0ken"}, "codewell: Value error, CODEWELL_WEBHOOK_URL needs CODEWELL_WEBHOOK_SECRET or"),
        ({"SECRET": "t0ken"}, "codewell: CODEWELL_WEBHOOK_SECRET: Value error, the secret has 5 bytes, fewer than 24"),
    ],
)
def test_a_start_with_a_wrong_webhook_is_refused_and_shows_nothing(environment: dict[str, str], said: str) -> None:
    done = CliRunner().invoke(
        app, ["serve"], env={f"CODEWELL_WEBHOOK_{name}": value for name, value in environment.items()}
    )
    assert done.exit_code == 1
    assert said in done.output
    assert "t0ken" not in done.output
