"""Where the tests' PostgreSQL comes from: the one that TEST_DATABASE_URL names, or an embedded one.

The database in the URL is never written to. It is only the way in: the tests make databases of their own beside it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import asyncpg
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

DRIVER = "postgresql+asyncpg"
FOR_TESTS = re.compile(r"(^|[^a-z])tests?([^a-z]|$)")
PROJECT = Path(__file__).parent.parent.parent


class HarnessError(Exception):
    """The tests cannot run; the message is one sentence for the developer."""


def named_server(environ: Mapping[str, str]) -> URL | None:
    """Return the server that the environment names, or None when the embedded one is to be used.

    Raises:
        HarnessError: it is not a PostgreSQL through asyncpg, or DATABASE_URL names a database that may hold real data.
    """
    variable = next((name for name in ("TEST_DATABASE_URL", "DATABASE_URL") if environ.get(name)), None)
    if variable is None:
        return None
    try:
        url = make_url(environ[variable])
    except ArgumentError:
        url = URL.create("unreadable")
    if url.drivername != DRIVER:
        raise HarnessError(f"Integration tests require {DRIVER}:// but {variable} begins with {url.drivername}://")
    if variable == "DATABASE_URL" and not FOR_TESTS.search((url.database or "").lower()):
        raise HarnessError(
            f"DATABASE_URL names the database {url.database!r}, which does not say that it is for tests: "
            "name a server in TEST_DATABASE_URL, or unset DATABASE_URL to use the embedded one."
        )
    return url


def connect_arguments(url: URL) -> dict[str, object]:
    """Return what `asyncpg.connect` needs for a server, leaving out the database."""
    arguments = url.translate_connect_args(username="user") | dict(url.query)
    arguments.pop("database", None)
    return arguments


async def check(url: URL) -> None:
    """Try the server once.

    Raises:
        HarnessError: it does not answer, does not let us in, or does not let us make databases.
    """
    where = f"{url.host or url.query.get('host', 'localhost')}:{url.port or 5432}"
    try:
        connection = await asyncpg.connect(**connect_arguments(url), database=url.database, timeout=5)
    except (OSError, asyncpg.CannotConnectNowError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "no answer within 5 s"
        raise HarnessError(f"No PostgreSQL answers at {where} ({reason}): start it, or correct the URL.") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError, TypeError) as error:
        raise HarnessError(f"The PostgreSQL at {where} refuses the connection: {error}") from error
    try:
        if not await connection.fetchval("SELECT rolcreatedb OR rolsuper FROM pg_roles WHERE rolname = current_user"):
            raise HarnessError(
                f"The role {url.username!r} may not create databases: ALTER ROLE {url.username} CREATEDB"
            )
    finally:
        await connection.close()


class EmbeddedServer:
    """A throw-away PostgreSQL, in a process of its own that ends when this one does, however this one ends."""

    def __init__(self) -> None:
        """Start it, and do not wait for it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dev.postgres"],
            cwd=PROJECT,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for the tests; the server goes when they are done.
            text=True,
        )

    def url(self) -> URL:
        """Wait until it answers, which takes about half a second from the start, and return its address.

        Raises:
            HarnessError: it did not start, or there is none for this machine.
        """
        assert self._process.stdout
        url = self._process.stdout.readline().strip()
        if not url:
            _, complaint = self._process.communicate()
            raise HarnessError(f"{complaint.strip()}\nName a server of your own in TEST_DATABASE_URL: {DRIVER}://...")
        return make_url(url)

    def stop(self) -> None:
        """Stop it, and wait until nothing is left of it."""
        self._process.communicate()
