"""Settings: read once from the environment and the `.env` file, and checked before anything starts.

A feature that needs settings of its own defines a `Section` in `app/<feature>/config.py`; it is found and checked
at the start like those below.
"""

import re
import socket
from functools import cache
from ipaddress import ip_address
from os import environ
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_core import Url
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict, SettingsError
from sqlalchemy import URL, make_url

from app.core.database_url import DATABASE_DRIVER as DATABASE_DRIVER
from app.core.database_url import check_database_url

EXAMPLE_PASSWORDS = frozenset({"a-password-of-its-own", "admin", "change-me", "changeme", "password", "postgres"})
SHORTEST_PASSWORD = 12
ROOT_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
OWN_PATHS = ("/api/v1/", "/health/ready/", "/docs/assets/", "/redoc/", "/openapi.json/")
"""Paths of the service: with a prefix that one of them begins with, it is not known whether a request has it."""

LONGEST = 100 * 365 * 24 * 3600
"""A hundred years in seconds: added to any date, it is still a date."""
LONGEST_IN_POSTGRESQL = 2**31 // 1000
"""PostgreSQL counts milliseconds in 32 bits."""

# Not less than a millisecond: PostgreSQL takes 0 for no limit at all.
Seconds = Annotated[float, Field(ge=0.001, le=LONGEST, allow_inf_nan=False)]
ServerSeconds = Annotated[float, Field(ge=0.001, le=LONGEST_IN_POSTGRESQL, allow_inf_nan=False)]
Delay = Annotated[float, Field(ge=0, le=LONGEST, allow_inf_nan=False)]
WholeSeconds = Annotated[int, Field(gt=0, le=LONGEST)]
Bytes = Annotated[int, Field(gt=0, lt=2**63)]
Connections = Annotated[int, Field(ge=0, lt=2**18)]
"""PostgreSQL has at most as many."""

TARGET_TRIPLE = re.compile(r"\w+-(conda|apple|pc|unknown|w64)-[\w.-]+")
HOST_NAME = re.compile(r"[\w.-]+", re.ASCII)
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[1-9][0-9]*)?")
DEFAULT_PORT = re.compile("http://.*:80|https://.*:443")

SectionT = TypeVar("SectionT", bound="Section")


class Section(BaseSettings):
    """A group of settings, each read from the environment variable of its name in capitals."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    environment: Literal["development", "test", "production"] = "production"
    """Known to every section, because what production needs may differ."""


@cache
def load(section: type[SectionT]) -> SectionT:
    """Return the process's one instance of `section`.

    Raises:
        pydantic.ValidationError: a setting is missing, not allowed, or cannot be read.
    """
    try:
        return section()
    except SettingsError as error:  # Its cause holds the value.
        reason = f"{error}: it must be JSON"
    except UnicodeDecodeError:
        reason = "The file .env is not in UTF-8"
    except OSError as error:
        reason = f"The file .env cannot be read: {error.strerror}"
    raise refusal(section, reason)


def refusal(section: type[Section], reason: str) -> ValidationError:
    """Return the error that says what is wrong with `section` as a whole."""
    problem = {"type": "value_error", "input": None, "ctx": {"error": ValueError(reason)}}
    return ValidationError.from_exception_data(section.__name__, [problem])  # type: ignore[list-item]


def explain(error: ValidationError) -> str:
    """Say which variables are wrong, a line each, without their values: these may be secrets."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        if problem["type"] == "default_factory_not_called":  # A default that follows from a setting which is wrong.
            continue
        variable = "_".join(map(str, problem["loc"])).upper()
        lines.append(f"{variable} {problem['msg'].removeprefix('Value error, ')}".strip())
    return "\n".join(lines)


def is_connectable(url: str) -> bool:
    """Say whether a client can connect to the host and port of `url`: the rules are those of the browsers' standard."""
    try:
        return Url(url).port != 0
    except ValidationError:
        return False


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class Settings(Section):
    """What the service itself needs. All durations are in seconds, all sizes in bytes."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: Annotated[int, Field(gt=0, le=1000)] = 1
    root_path: str = ""
    keep_alive_timeout: WholeSeconds = 65
    max_request_head_bytes: Annotated[int, Field(ge=4096, le=1024 * 1024)] = 32 * 1024
    write_timeout: Seconds = 60
    request_body_timeout: Seconds = 30
    shutdown_delay: Delay = Field(default_factory=lambda data: 5 * (data.get("environment") == "production"))
    shutdown_timeout: WholeSeconds = 20

    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)] = "INFO"
    log_format: Literal["json", "console"] = "json"
    api_docs: bool = Field(default_factory=lambda data: data.get("environment") != "production")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    max_request_bytes: Bytes = 1024 * 1024
    max_bodies_bytes: Bytes = 64 * 1024 * 1024

    database_url: Annotated[str, Field(repr=False)]
    db_pool_size: Annotated[Connections, Field(gt=0)] = 10
    db_max_overflow: Connections = 10
    db_pool_timeout: Seconds = 5
    db_connect_timeout: Seconds = 5
    db_statement_timeout: ServerSeconds = 15
    db_lock_timeout: ServerSeconds = 5
    db_idle_in_transaction_timeout: ServerSeconds = 60
    db_behind_pgbouncer: bool = False
    readiness_timeout: Seconds = 2

    @model_validator(mode="before")
    @classmethod
    def _reload_soon(cls, values: dict[str, object]) -> dict[str, object]:
        """In development a reload does not wait long for requests, such as an event stream that does not end."""
        return {"shutdown_timeout": 1} | values if values.get("environment") == "development" else values

    @field_validator("root_path")
    @classmethod
    def _require_prefix(cls, value: str) -> str:
        if not ROOT_PATH.fullmatch(value):
            raise ValueError("must begin with a slash and not end with one: /billing")
        if value and any(path.startswith(f"{value}/") for path in OWN_PATHS):
            raise ValueError("must not be what paths of the service begin with, as /api is: choose another prefix")
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip() for origin in value.split(",") if origin.strip())
        return value

    @field_validator("cors_origins")
    @classmethod
    def _require_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for number, origin in enumerate(value, 1):
            is_url = origin in {"*", "null"} or (ORIGIN.fullmatch(origin) and is_connectable(origin))
            if not is_url or DEFAULT_PORT.fullmatch(origin):
                raise ValueError(
                    f"needs origins as browsers send them, which number {number} is not: scheme://host or "
                    "scheme://host:port, separated by commas, in lower case, without a path, a slash at the end, "
                    "a wildcard, or a port that is the scheme's own"
                )
        return value

    @field_validator("host", mode="before")
    @classmethod
    def _require_address(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        if TARGET_TRIPLE.fullmatch(value):  # Conda's compilers set HOST, too, to the machine that they compile for.
            return "127.0.0.1"
        if not HOST_NAME.fullmatch(value):
            try:
                ip_address(value)
            except ValueError:
                raise ValueError("must be an address or a name, without a scheme, a port or brackets") from None
        return value

    @model_validator(mode="after")
    def _require_port(self) -> Self:
        if self.port == 0 and self.environment == "production":
            raise ValueError("PORT must not be 0 in production: clients could not know which port was free")
        return self

    @field_validator("database_url")
    @classmethod
    def _require_asyncpg(cls, value: str) -> str:
        return check_database_url(value)

    @model_validator(mode="after")
    def _refuse_weak_password(self) -> Self:
        source, password = "DATABASE_URL", self.database.password
        if password is None:  # Then the driver takes this one. Without it, the server asks for something else.
            source, password = "PGPASSWORD", environ.get("PGPASSWORD") or None
        if self.environment != "production" or password is None:
            return self
        if password in EXAMPLE_PASSWORDS or len(password) < SHORTEST_PASSWORD:
            raise ValueError(
                f"{source} has an example password or one of under {SHORTEST_PASSWORD} characters: choose another"
            )
        return self

    def check_host(self) -> None:
        """Try to listen where the service is to listen, which the settings of another program need not allow.

        Raises:
            pydantic.ValidationError: it is not an address of this machine.
        """
        for family in (socket.AF_INET6, socket.AF_INET):
            try:
                with socket.socket(family) as probe:
                    probe.bind((self.host, 0))
                    return
            except (OSError, UnicodeError):
                continue
        raise refusal(
            Settings, f"HOST is {self.host!r}, which is not an address of this machine: set 127.0.0.1 or 0.0.0.0"
        )

    @property
    def database(self) -> URL:
        """`database_url`, parsed; its password is hidden when it is printed."""
        return make_url(self.database_url)
