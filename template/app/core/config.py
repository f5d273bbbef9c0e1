"""Settings: read once from the environment and the `.env` file, and checked before anything starts.

A feature that needs settings of its own defines a `Section` in `app/<feature>/config.py`; it is found and checked
at the start like those below.
"""

import re
from functools import cache
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

DATABASE_DRIVER = "postgresql+asyncpg"
EXAMPLE_PASSWORDS = frozenset({"a-password-of-its-own", "admin", "change-me", "changeme", "password", "postgres"})
SHORTEST_PASSWORD = 12
ROOT_PATH = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*")
OWN_PATHS = ("/api/v1/", "/health/ready/", "/docs/assets/", "/redoc/", "/openapi.json/")
"""Paths of the service: with a prefix that one of them begins with, it is not known whether a request has it."""

Seconds = PositiveFloat
SectionT = TypeVar("SectionT", bound="Section")


class Section(BaseSettings):
    """A group of settings, each read from the environment variable of its name in capitals."""

    model_config = SettingsConfigDict(env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True)

    environment: Literal["development", "test", "production"] = "production"
    """Known to every section, because what production needs may differ."""


@cache
def load(section: type[SectionT]) -> SectionT:
    """Return the process's one instance of `section`.

    Raises:
        pydantic.ValidationError: a setting is missing or not allowed.
    """
    return section()


def explain(error: ValidationError) -> str:
    """Say which variables are wrong, a line each, without their values: these may be secrets."""
    lines = []
    for problem in error.errors(include_input=False, include_url=False):
        variable = "_".join(map(str, problem["loc"])).upper()
        lines.append(f"{variable} {problem['msg'].removeprefix('Value error, ')}".strip())
    return "\n".join(lines)


class Settings(Section):
    """What the service itself needs. All durations are in seconds, all sizes in bytes."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    workers: PositiveInt = 1
    root_path: str = ""
    keep_alive_timeout: PositiveInt = 65
    request_body_timeout: Seconds = 30
    shutdown_delay: float = Field(default_factory=lambda data: 5 * (data.get("environment") == "production"), ge=0)
    shutdown_timeout: PositiveInt = 20

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"
    api_docs: bool = Field(default_factory=lambda data: data.get("environment") != "production")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    max_request_bytes: PositiveInt = 1024 * 1024

    database_url: str
    db_pool_size: PositiveInt = 10
    db_max_overflow: Annotated[int, Field(ge=0)] = 10
    db_pool_timeout: Seconds = 5
    db_connect_timeout: Seconds = 5
    db_statement_timeout: Seconds = 15
    db_lock_timeout: Seconds = 5
    db_idle_in_transaction_timeout: Seconds = 60
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

    @field_validator("database_url")
    @classmethod
    def _require_asyncpg(cls, value: str) -> str:
        try:
            driver = make_url(value).drivername
        except ArgumentError:
            driver = None
        if driver != DATABASE_DRIVER:
            # The value is not repeated: it may hold a password.
            raise ValueError(f"must be a URL that begins with {DATABASE_DRIVER}://")
        return value

    @model_validator(mode="after")
    def _refuse_weak_password(self) -> Self:
        password = self.database.password
        if self.environment != "production" or password is None:  # Without one, the server asks for something else.
            return self
        if password in EXAMPLE_PASSWORDS or len(password) < SHORTEST_PASSWORD:
            raise ValueError(
                f"DATABASE_URL has an example password or one of under {SHORTEST_PASSWORD} characters: choose another"
            )
        return self

    @property
    def database(self) -> URL:
        """`database_url`, parsed; its password is hidden when it is printed."""
        return make_url(self.database_url)
