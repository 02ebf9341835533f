"""The two forms of a line of the log."""

import json
import logging

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from service.log import REQUEST_ID, JsonFormatter, TextFormatter, log_config
from service.store.database import Database


def record(message: str, *given: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("service.some", logging.WARNING, "file.py", 1, message, given, None)
    made.__dict__.update(extra)
    return made


def test_a_line_is_one_line_of_json_whatever_the_message_holds() -> None:
    said = 'two\nlines, "quotes", é and \x1b'
    line = JsonFormatter().format(record("%s", said, status=200, other="left out"))
    assert "\n" not in line
    told = json.loads(line)
    assert (told["message"], told["level"], told["logger"], told["status"]) == (said, "warning", "service.some", 200)
    assert "other" not in told
    assert "request_id" not in told
    try:
        raise ValueError("why")
    except ValueError as error:
        failed = record("failed")
        failed.exc_info = (type(error), error, error.__traceback__)
    told = json.loads(JsonFormatter().format(failed))
    assert told["exception"].endswith("ValueError: why")
    assert told["exception"].startswith("Traceback")


def test_text_has_the_id_at_the_end_of_the_line() -> None:
    assert TextFormatter().format(record("done")).endswith(" WARNING done")
    token = REQUEST_ID.set("r-1")
    try:
        assert TextFormatter().format(record("done")).endswith(" WARNING done request_id=r-1")
        assert json.loads(JsonFormatter().format(record("done")))["request_id"] == "r-1"
    finally:
        REQUEST_ID.reset(token)


def test_the_setting_chooses_the_form() -> None:
    assert log_config("info", "json")["formatters"]["line"] == {"()": JsonFormatter}
    assert log_config("debug", "text")["formatters"]["line"] == {"()": TextFormatter}
    assert log_config("debug", "text")["loggers"]["service"] == {"level": "DEBUG"}


def test_what_a_statement_was_given_is_in_no_error(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(DBAPIError) as failed, database.reading() as session:
        session.execute(text("SELECT * FROM nowhere WHERE a = :a"), {"a": "a user's words"})
    assert "SELECT * FROM nowhere" in str(failed.value)
    assert "a user's words" not in str(failed.value)
    database.close()
