"""Validate DATABASE_URL: what passes here is something that the driver can connect with."""

import asyncio
import inspect
import re
from concurrent.futures import ThreadPoolExecutor
from os import environ
from typing import Any

import asyncpg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

DATABASE_DRIVER = "postgresql+asyncpg"
HOST = re.compile(r"[\w.:-]+(%\w+)?|/.*", re.ASCII)
NO_SOCKET = "/" + "x" * 200
"""A socket whose path is too long, which is refused without an error number; a file that is missing has one."""
ESCAPES = "write @ as %40, / as %2F, : as %3A, ? as %3F, # as %23 and % as %25 in its user name and password"

INSTEAD = {
    "sslmode": "write ssl= with the same value",
    "timeout": "set DB_CONNECT_TIMEOUT",
    "connect_timeout": "set DB_CONNECT_TIMEOUT",
    "command_timeout": "set DB_STATEMENT_TIMEOUT",
    "statement_timeout": "set DB_STATEMENT_TIMEOUT",
    "lock_timeout": "set DB_LOCK_TIMEOUT",
    "pool_size": "set DB_POOL_SIZE",
    "connection_limit": "set DB_POOL_SIZE",
    "max_overflow": "set DB_MAX_OVERFLOW",
    "pool_timeout": "set DB_POOL_TIMEOUT",
    "pgbouncer": "set DB_BEHIND_PGBOUNCER",
    "statement_cache_size": "set DB_BEHIND_PGBOUNCER",
    "prepared_statement_cache_size": "set DB_BEHIND_PGBOUNCER",
    "server_settings": "use ALTER ROLE ... SET ...",
    "options": "use ALTER ROLE ... SET ...",
    "schema": "use ALTER ROLE ... SET search_path = ...",
    "search_path": "use ALTER ROLE ... SET search_path = ...",
    "direct_tls": "set the variable PGSSLNEGOTIATION",
    "user": "write it before the @",
    "password": "write it before the @",
    "database": "write it after the host",
}
"""Query parameters of other drivers, and those whose place is a setting: what to do instead."""
NO_TEXT = frozenset(
    {"dsn", "service", "servicefile", "loop", "connection_class", "record_class"}
    | {"max_cached_statement_lifetime", "max_cacheable_statement_size"}
)
"""Arguments of `asyncpg.connect` that a URL cannot give, or that have no effect there."""


def check_database_url(value: str) -> str:
    """Return `value` if the driver can connect with it.

    Raises:
        ValueError: it cannot. The message repeats nothing that may be a part of the password.
    """
    if value.strip("\"' \t\r\n") != value or not value.isprintable() or " " in value:
        raise ValueError("has a space, a line break or a quotation mark in or around it that does not belong there")
    try:
        url = make_url(value, keep_blank_values=True)
    except ArgumentError:
        url = URL.create("unreadable")
    except ValueError:  # Its message would repeat what stands where the port should be, often a part of a password.
        raise ValueError(f"has no number where its port should be: {ESCAPES}") from None
    if url.drivername != DATABASE_DRIVER:
        raise ValueError(f"must be a URL that begins with {DATABASE_DRIVER}://")
    _check_address(url)
    _check_parameters(url)
    return value


def _check_address(url: URL) -> None:
    hosts = [host for host in (url.host, *url.normalized_query.get("host", ())) if host]
    database = url.database or ""
    # What an unescaped password leaves behind. The query may have it, too, as names of parameters.
    misplaced = re.search("[@/:?#]", database) or "@" in f"{url.query}"
    if misplaced or not all(map(_is_host, hosts)):
        raise ValueError(f"cannot be taken apart into user, password, host and database: {ESCAPES}")
    if not hosts and url.username and not environ.get("PGHOST"):
        raise ValueError("names no host between @ and /")
    if not database and not environ.get("PGDATABASE"):
        raise ValueError("names no database: it ends with /NAME after the host and port")
    if "\0" in f"{url.username}{url.password}{database}":
        raise ValueError("has a zero byte (%00), which PostgreSQL does not take")


def _check_parameters(url: URL) -> None:
    known = inspect.signature(asyncpg.connect).parameters.keys() - NO_TEXT - INSTEAD.keys()
    for name, values in url.normalized_query.items():
        if name not in known:
            variable = f"PG{name.upper().replace('_', '')}"
            instead = INSTEAD.get(name) or (f"set the variable {variable}" if "ssl" in name else "leave it out")
            raise ValueError(f"has the parameter {name}, which is not one of the driver's: {instead}")
        if len(values) > 1 and name != "host":
            raise ValueError(f"has the parameter {name} more than once")
        if not all(values):
            raise ValueError(f"has the parameter {name} without a value: give it one, or leave it out")
    try:
        _, arguments = url.get_dialect()().create_connect_args(url)
    except (ArgumentError, ValueError):
        raise ValueError("names several hosts: each needs its port, as ?host=a:5432&host=b:5432") from None
    ports = arguments.get("port", [])
    for port in (url.port, *(ports if isinstance(ports, list) else [ports])):
        if port is not None and not 0 < port < 2**16:
            raise ValueError("has a port that is not between 1 and 65535")
    parameters = {name: arguments[name] for name in url.query.keys() - {"host", "port"}}
    with ThreadPoolExecutor(1) as thread:  # Another loop may be running in this one.
        thread.submit(asyncio.run, _ask_driver(parameters)).result()


def _is_host(text: str) -> bool:
    try:
        return bool(HOST.fullmatch(text) and (text.startswith("/") or text.encode("idna")))
    except UnicodeError:  # A part of it is empty, or too long.
        return False


async def _ask_driver(parameters: dict[str, Any]) -> None:
    """Have the driver check all parameters, and the variables that it reads. This touches no network.

    Raises:
        ValueError: it does not take them.
    """
    options: dict[str, Any] = parameters | {"host": NO_SOCKET, "port": 5432}
    try:
        await asyncpg.connect(**options, user="-", password="-", database="-")  # noqa: S106
    except Exception as error:
        if isinstance(error, OSError) and error.errno is None:  # It has come as far as the socket.
            return
        reason = str(error).partition("\n")[0]
        advice = "; the variable PGSSLROOTCERT names another" if "certificate" in reason else ""
        raise ValueError(
            f"or a variable such as PGSSLMODE has a value that the driver does not take: {reason}{advice}"
        ) from None
