"""What settings make of each other."""

from pathlib import Path

import pytest
from pydantic import ValidationError

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
