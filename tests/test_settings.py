"""What settings make of each other."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings


def test_a_password_in_a_file_goes_into_the_url(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("p/w@d\n")
    url = "postgresql://me@db.example:5433/codewell?sslmode=require"
    settings = Settings(database_url=url, database_password_file=file)
    assert settings.database == "postgresql://me:p%2Fw%40d@db.example:5433/codewell?sslmode=require"
    for unfit in (None, "postgresql://db.example/x", "postgresql://me:known@db.example/x"):
        with pytest.raises(ValidationError, match="DATABASE_PASSWORD_FILE needs a CODEWELL_DATABASE_URL"):
            Settings(database_url=unfit, database_password_file=file)
