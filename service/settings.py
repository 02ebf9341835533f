"""Every setting, read from the environment here and nowhere else."""

import hashlib
import os
import re
from pathlib import Path
from typing import Literal, Self
from urllib.parse import quote, urlsplit

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.signature import key_of

PREFIX = "CODEWELL_"
ORIGIN = re.compile(r"https?://[^/\s]+")
HOST = re.compile(r"(\*\.)?[^*/:\s]+")


def listed(given: str | None) -> list[str]:
    """What commas separate."""
    return [part.strip() for part in (given or "").split(",") if part.strip()]


class Settings(BaseSettings):
    """`CODEWELL_<NAME>` in the environment sets a field; the README's table is tested against this class."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        extra="forbid",
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,  # it may be a password
    )

    data_dir: Path = Field(
        Path("codewell-data"),
        description="Folder of the SQLite file, of snapshots of codes and of running jobs' scratch files",
    )
    database_url: str | None = Field(
        None,
        description="`postgresql://USER:PASSWORD@HOST/NAME` or `sqlite:///FILE`; without one, `codewell.db` in the "
        "data folder",
    )
    database_password_file: Path | None = Field(
        None, description="File of the database's password, such as a container's secret; it goes into the URL"
    )
    host: str = Field("127.0.0.1", description="Address the server listens on")
    port: int = Field(8000, ge=0, le=65535, description="Port the server listens on; 0 takes a free one")
    workers: int = Field(1, ge=1, description="Processes that answer requests, each with its own view of the codes")
    auth: Literal["auto", "keys", "off"] = Field(
        "auto",
        description="Whether API keys are needed: `keys`, `off`, or `auto`: where `CODEWELL_HOST` is not loopback, or "
        "once a key was made",
    )
    first_key_file: Path | None = Field(
        None, description="File that a first API key, of scope admin, is written to at a start that finds none"
    )
    cors_origins: str | None = Field(
        None, description="Origins whose pages may call, such as `https://app.example,https://other.example`, or `*`"
    )
    trusted_hosts: str | None = Field(
        None, description="Host names that requests may ask for, such as `search.example,*.example.org`; any without it"
    )
    log_level: Literal["critical", "error", "warning", "info", "debug"] = Field(
        "info", description="Least severe log line that is written"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Form of log lines: `text`, or `json`, an object a line"
    )
    otlp_endpoint: str | None = Field(
        None,
        validation_alias=AliasChoices("CODEWELL_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
        description="Base URL of an OpenTelemetry collector that spans are sent to over HTTP, such as "
        "http://127.0.0.1:4318; needs the extra `otel`. `OTEL_EXPORTER_OTLP_ENDPOINT` is taken, too",
    )
    webhook_url: str | None = Field(
        None,
        description="URL that is told by POST how jobs ended and which collections drift, such as "
        "`https://ops.example/codewell`; needs the secret",
    )
    webhook_secret: SecretStr | None = Field(
        None, description="What these requests are signed by: `whsec_` and base64, or a text of 24 bytes or more"
    )
    webhook_secret_file: Path | None = Field(
        None, description="File of that secret, such as a container's secret, instead of it"
    )
    threads: int = Field(0, ge=0, description="Threads for trainings, encoding and searches; 0 means one a core")
    concurrent_searches: int = Field(
        0,
        ge=0,
        description="Searches computed at the same time; 0: the cores, or CODEWELL_THREADS, shared out among workers",
    )
    concurrent_requests: int = Field(
        16, ge=1, description="Requests worked on at the same time: so many searches, streams and others each"
    )
    waiting_requests: int = Field(
        64, ge=0, description="Searches, and others, that may wait for their turn; more are answered 503"
    )
    waiting_ms: int = Field(2_000, ge=1, description="Longest wait for a turn, in milliseconds; then 503")
    search_ms: int = Field(
        10_000,
        ge=1,
        le=600_000,
        description="Milliseconds of a search that names no `timeout_ms`; then it answers what it has, as `partial`",
    )
    max_connections: int = Field(
        800, ge=1, description="Connections open at the same time, by each process; more are answered 503 and closed"
    )
    head_seconds: int = Field(10, ge=1, description="Seconds that a client has for the headers of a request")
    body_seconds: int = Field(
        60, ge=1, description="Seconds for a body; of a streamed one, the longest silence, and of its reader"
    )
    poll_ms: int = Field(
        20,
        ge=1,
        description="Milliseconds between looks at SQLite for changes by other processes; PostgreSQL notifies",
    )

    train_at: int = Field(
        10_000,
        ge=0,
        description="Items at which a collection trains its first codec by itself; 0 means only on request",
    )
    train_sample: int = Field(1_000_000, ge=1_000, description="Vectors a training reads at most")
    plan_sample: int = Field(
        20_000, ge=200, le=100_000, description="Vectors that a plan looks at, where it does not say"
    )
    plan_minutes: float = Field(
        5.0, gt=0, le=1_440, description="Minutes of training that a plan takes at most, where it does not say"
    )
    snapshot_at: int = Field(
        10_000,
        ge=0,
        description="Items from which on the codes of a collection are kept in the data folder as well, to start from "
        "them; 0 means never",
    )
    keep_generations: int = Field(
        1, ge=0, description="Codecs published before the present one whose codes are kept for a rollback"
    )
    max_jobs: int = Field(1, ge=1, description="Jobs that run at the same time")
    lease_seconds: int = Field(
        30,
        ge=3,
        description="Seconds of silence after which a server is taken for gone and others over the same database take "
        "up its jobs; the same on all of them",
    )
    pictures: bool = Field(True, description="Draw pictures of every training, where the extra plots is installed")

    max_body_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="Largest request body; a line of a streamed ingest may be as long"
    )
    max_bodies_bytes: int = Field(
        256 * 1024 * 1024, ge=1024, description="Request bodies held at the same time, in bytes; then 503"
    )
    max_json_parts: int = Field(
        2_000_000,
        ge=1_000,
        description="Strings, lists and objects in one JSON body or line, counted by quotes and brackets",
    )
    max_items: int = Field(10_000, ge=1, description="Items or ids in one request; a streamed ingest has no limit")
    max_queries: int = Field(
        10_000, ge=1, description="Queries in one request; a streamed search may have more, as long as its body"
    )
    max_text_chars: int = Field(1_000_000, ge=1, description="Longest text of an item or query")
    max_chunks: int = Field(
        50_000, ge=1, description="Chunks that the texts of one request may have together, where texts are cut"
    )
    max_metadata_bytes: int = Field(65_536, ge=2, description="Longest metadata of an item, as JSON")
    max_metadata_depth: int = Field(64, ge=1, le=150, description="Levels of lists and objects in metadata")
    max_dimension: int = Field(16_384, ge=1, description="Longest vector")
    max_k: int = Field(1_000, ge=1, description="Most hits a query may ask for")
    max_oversample: int = Field(100, ge=1, description="Highest oversampling a query may ask for")
    max_shortlist: int = Field(
        1_000_000,
        ge=1,
        description="Most shortlisted items, k * oversample, that a request's queries may have together",
    )
    max_collections: int = Field(1_000, ge=0, description="Collections; 0 means any number")
    max_collection_items: int = Field(0, ge=0, description="Items of one collection; 0 means any number")
    max_collection_bytes: int = Field(
        0, ge=0, description="Bytes of one collection's ids, texts, metadata and vectors; 0 means any number"
    )
    max_key_items: int = Field(
        0, ge=0, description="Items in an API key's collections, where the key has no limit of its own; 0: any number"
    )
    max_key_bytes: int = Field(0, ge=0, description="Bytes in an API key's collections, likewise")
    stream_batch: int = Field(1_000, ge=1, description="Items committed together in a streamed ingest")

    encoder: Literal["sentence-transformers", "openai", "tfidf", "none"] = Field(
        "sentence-transformers",
        description="Text encoder of collections that do not name one: sentence-transformers, openai, tfidf or none",
    )
    sentence_model: str | None = Field(
        None,
        description="Path or hub name of a sentence-transformers model; without one, all-MiniLM-L6-v2",
    )
    tfidf_dimension: int = Field(2048, ge=16, le=2048, description="Length of hashed TF-IDF vectors")
    openai_url: str | None = Field(
        None, description="Base URL of an OpenAI-compatible API, such as http://127.0.0.1:11434/v1"
    )
    openai_model: str | None = Field(None, description="Model that the embeddings endpoint is asked for")
    openai_api_key: SecretStr | None = Field(None, description="Key sent to the embeddings endpoint")

    @model_validator(mode="after")
    def _openai_is_whole(self) -> Self:
        if self.encoder == "openai" and (self.openai_url is None or self.openai_model is None):
            raise ValueError("the encoder openai needs CODEWELL_OPENAI_URL and CODEWELL_OPENAI_MODEL")
        return self

    @model_validator(mode="after")
    def _password_has_a_user(self) -> Self:
        user = (self.database_url or "").partition("://")[2].partition("@")
        if self.database_password_file is not None and (not user[1] or ":" in user[0]):
            raise ValueError(
                "CODEWELL_DATABASE_PASSWORD_FILE needs a CODEWELL_DATABASE_URL like postgresql://USER@HOST/NAME"
            )
        return self

    @field_validator("webhook_url")
    @classmethod
    def _webhook_can_be_called(cls, given: str | None) -> str | None:
        if given is not None and not _is_web_address(given):
            raise ValueError("it is no URL like https://ops.example/codewell")
        return given

    @field_validator("webhook_secret")
    @classmethod
    def _webhook_secret_is_a_key(cls, given: SecretStr | None) -> SecretStr | None:
        if given is not None:
            key_of(given.get_secret_value())
        return given

    @model_validator(mode="after")
    def _webhook_is_signed(self) -> Self:
        if self.webhook_secret is not None and self.webhook_secret_file is not None:
            raise ValueError("CODEWELL_WEBHOOK_SECRET and CODEWELL_WEBHOOK_SECRET_FILE are both set; one is enough")
        if self.webhook_url is not None and self.webhook_secret is None and self.webhook_secret_file is None:
            raise ValueError("CODEWELL_WEBHOOK_URL needs CODEWELL_WEBHOOK_SECRET or CODEWELL_WEBHOOK_SECRET_FILE")
        return self

    @field_validator("cors_origins", "trusted_hosts")
    @classmethod
    def _each_is_whole(cls, given: str | None, info: ValidationInfo) -> str | None:
        kind = "an origin like https://app.example" if info.field_name == "cors_origins" else "a name like app.example"
        form = ORIGIN if info.field_name == "cors_origins" else HOST
        for one in listed(given):
            if one != "*" and form.fullmatch(one) is None:
                raise ValueError(f"{one!r} is not {kind}; several are separated by commas")
        return given

    @staticmethod
    def unknown() -> list[str]:
        """Variables of the environment that begin like settings and are none: misspelt ones, most likely."""
        known = Settings.model_fields.keys() | ClientSettings.model_fields.keys()
        return sorted(
            name for name in os.environ if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in known
        )

    @property
    def cores(self) -> int:
        """Threads to use: the setting, or the cores this process may run on."""
        return self.threads or len(os.sched_getaffinity(0))

    @property
    def cores_each(self) -> int:
        """Threads of one worker's own."""
        return max(1, self.cores // self.workers)

    @property
    def jobs_dir(self) -> Path:
        """Folder of running jobs' files: one for each database, should two be served over one data folder."""
        return self._own_folder("jobs")

    @property
    def snapshots_dir(self) -> Path:
        """Folder of the views' snapshots: one for each database, likewise."""
        return self._own_folder("snapshots")

    def _own_folder(self, name: str) -> Path:
        if self.database_url is None:
            return self.data_dir / name
        place = self.database_url.rpartition("@")[2]  # without user and password, which may change
        return self.data_dir / f"{name}-{hashlib.blake2b(place.encode(), digest_size=4).hexdigest()}"

    @property
    def database_file(self) -> Path | None:
        """SQLite's; none where the database is another one."""
        if self.database_url is None:
            return (self.data_dir / "codewell.db").resolve()
        scheme, _, path = self.database_url.partition(":///")
        return Path(path.partition("?")[0]).resolve() if scheme.partition("+")[0] == "sqlite" else None

    @property
    def webhook_key(self) -> bytes:
        """What is sent to the webhook is signed by; empty where there is no secret.

        Raises:
            OSError: the secret's file cannot be read. ValueError: what it holds is no secret.
        """
        if self.webhook_secret_file is not None:
            return key_of(self.webhook_secret_file.read_text().strip())
        return b"" if self.webhook_secret is None else key_of(self.webhook_secret.get_secret_value())

    @property
    def database(self) -> str:
        """The URL in use, with the password in it.

        Raises:
            OSError: the password's file cannot be read.
        """
        if self.database_url is None:
            return f"sqlite:///{self.database_file}"
        if self.database_password_file is None:
            return self.database_url
        scheme, _, rest = self.database_url.partition("://")
        who, _, where = rest.partition("@")
        password = quote(self.database_password_file.read_text().strip(), safe="")
        return f"{scheme}://{who}:{password}@{where}"


def _is_web_address(given: str) -> bool:
    try:
        parts = urlsplit(given)
        port = parts.port  # which is read only now
    except ValueError:
        return False
    whole = given.isascii() and given.isprintable() and " " not in given
    return whole and parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and not parts.fragment


class ClientSettings(BaseSettings):
    """What the commands that talk to a server read from the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", frozen=True)

    url: str = Field("http://127.0.0.1:8000", description="Server that `codewell ingest`, `search` and so on talk to")
    api_key: SecretStr | None = Field(None, description="API key that these commands show to the server")
