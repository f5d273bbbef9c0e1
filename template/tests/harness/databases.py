"""How databases are made: one template is migrated by Alembic, and everything else is a clone of it.

The template is named after the content of the migrations and kept between runs, so an unchanged schema is migrated
once. Each worker clones it for its sandbox, and once more for each test that wants a database of its own.
"""

import asyncio
import hashlib
import itertools
import re
import tomllib
import traceback
import zlib
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import URL

from tests.harness.server import PROJECT, HarnessError, connect_arguments

LONGEST_NAME = 63
LONGEST_PREFIX = 36
LONGEST_REASON = 500
OURS = {"test": r"test_[0-9a-f]{8}_(main|gw[0-9]+)(_[0-9]+)?", "template": r"template_[0-9a-f]{12}"}
"""How the names of our databases go on, exactly: whatever else is on the server is not ours to remove."""
MOST_SPENT = 32
"""How many clones may wait for being removed. Each takes about 8 MB."""
TASK_NAME = "harness"
"""The name of the tasks that work ahead for later tests: no test is to blame for them."""


def _prefix() -> str:
    """Return the beginning of the names of all databases that this project's tests make."""
    pyproject = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    return re.sub(r"\W+", "_", pyproject["project"]["name"].lower())[:LONGEST_PREFIX]


PREFIX = _prefix()


def template_name() -> str:
    """Return the name of the template database for the migrations as they are now."""
    digest = hashlib.sha256()
    for path in sorted((PROJECT / "alembic").rglob("*.py")):
        digest.update(path.read_bytes())
    return f"{PREFIX}_template_{digest.hexdigest()[:12]}"


def alembic_config(url: URL) -> Config:
    """Return the project's Alembic configuration, pointed at `url`."""
    config = Config(str(PROJECT / "alembic.ini"))
    config.attributes["database_url"] = url.render_as_string(hide_password=False)
    return config


def describe_failure(error: BaseException) -> str:
    """Say in a few lines which migration failed, where, and why."""
    frames = traceback.extract_tb(error.__traceback__)
    steps = [frame for frame in frames if Path(frame.filename).parent == PROJECT / "alembic" / "versions"]
    where = f"{Path(steps[-1].filename).relative_to(PROJECT)}:{steps[-1].lineno}: {steps[-1].line}\n" if steps else ""
    cause = getattr(error, "orig", None) or error
    reason = str(cause).strip().splitlines() or [""]
    return (
        f"The migrations cannot be applied to an empty database, so no test can run.\n{where}"
        f"{type(cause).__name__}: {reason[0][:LONGEST_REASON]}\nCorrect the migration, and run the tests again."
    )


class Databases:
    """The databases of one worker of one test run.

    For as long as it is open it holds a connection that is named after the run. That is how other runs know that the
    run's databases are still in use; what a killed run left behind is removed by the next one.
    """

    def __init__(self, server: URL, run: str, worker: str) -> None:
        self.server = server
        self.template = template_name()
        self._run = f"{PREFIX}_test_{run}"
        self.name = f"{self._run}_{worker}"
        self._numbers = itertools.count(1)
        self._spare: asyncio.Task[str] | None = None
        self._spent: list[str] = []
        self._removal: asyncio.Task[None] | None = None
        self._helper: asyncpg.Connection | None = None
        self._one_at_a_time = asyncio.Lock()

    async def open(self) -> None:
        """Connect, remove the leftovers of dead runs, make the template if there is none, and clone it once.

        Raises:
            HarnessError: a migration failed.
        """
        self._lease = await self._connect(self.name)
        key = zlib.crc32(PREFIX.encode())
        await self._lease.execute("SELECT pg_advisory_lock($1)", key)
        try:
            await self._sweep()
            if self.template not in await self._names("template"):
                await self._build_template()
        finally:
            if not self._lease.is_closed():
                await self._lease.execute("SELECT pg_advisory_unlock($1)", key)
        # Copying files is faster than logging pages, but asks for a checkpoint, which takes long on a durable disk.
        durable = await self._lease.fetchval("SHOW fsync") == "on"
        self._strategy = "wal_log" if durable else "file_copy"
        await self.clone(self.name)

    async def close(self) -> None:
        """Remove everything but the template."""
        if self._spare is not None:
            await self.drop(await self._spare)
        if self._removal is not None:
            await self._removal
        if self._helper is not None:
            await self._helper.close()
        for name in [*self._spent, self.name]:
            await self.drop(name)
        await self._lease.close()

    async def take(self, *, more_to_come: bool) -> str:
        """Return the name of a fresh clone. With `more_to_come`, the next one is made while the test runs."""
        name = await self._spare if self._spare is not None else await self._clone_aside()
        self._spare = self._in_background(self._clone_aside()) if more_to_come else None
        return name

    def give_back(self, name: str) -> None:
        """Have a clone removed, many at a time: to remove each at once would take the machine from the next test."""
        self._spent.append(name)
        if len(self._spent) == MOST_SPENT:
            self._removal = self._in_background(self._drop_aside([*self._spent]))
            self._spent.clear()

    async def create_empty(self) -> str:
        """Make a database without any tables, for a test of the migrations, and return its name."""
        name = self._next_name()
        await self._lease.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        return name

    async def clone(self, name: str) -> None:
        """Make `name` a copy of the template."""
        await self.drop(name)
        await self._clone(self._lease, name)

    async def drop(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        await self._lease.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    async def keep(self, name: str, test: str) -> str:
        """Set the database of a failed test aside, and return the command that opens it."""
        kept = f"{PREFIX}_failed_{re.sub(r'[^a-z0-9]+', '_', test.lower())}"[:LONGEST_NAME]
        await self.drop(kept)
        await self._lease.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", name
        )
        await self._lease.execute(f'ALTER DATABASE "{name}" RENAME TO "{kept}"')
        return f"psql '{self.url(kept).set(drivername='postgresql').render_as_string(hide_password=False)}'"

    def url(self, name: str) -> URL:
        """Return the address of one of the databases."""
        return self.server.set(database=name)

    async def _connect(self, application: str, database: str | None = None) -> asyncpg.Connection:
        settings = {"application_name": application}
        arguments = connect_arguments(self.server)
        return await asyncpg.connect(**arguments, database=database or self.server.database, server_settings=settings)

    async def _build_template(self) -> None:
        partial = self._next_name()
        await self.drop(partial)
        await self._lease.execute(f'CREATE DATABASE "{partial}" TEMPLATE template0')
        # In a thread, because Alembic's env.py runs an event loop of its own.
        try:
            await asyncio.to_thread(command.upgrade, alembic_config(self.url(partial)), "head")
        except Exception as error:
            await self.drop(partial)
            await self._lease.close()
            raise HarnessError(describe_failure(error)) from None
        # The first connection after the migrations writes PostgreSQL's cache of the catalogue to a file, which is
        # cloned with the rest; without it the first connection to every clone would write its own.
        await (await self._connect(self.name, partial)).close()
        await self._lease.execute(f'ALTER DATABASE "{partial}" RENAME TO "{self.template}"')

    async def _sweep(self) -> None:
        rows = await self._lease.fetch("SELECT DISTINCT application_name FROM pg_stat_activity")
        alive = [row["application_name"] for row in rows if row["application_name"].startswith(f"{PREFIX}_test_")]
        for name in await self._names("test"):
            if not any(name.startswith(run) for run in alive):
                await self.drop(name)
        if all(run.startswith(self._run) for run in alive):  # Nobody else could be using an older template.
            for name in await self._names("template"):
                if name != self.template:
                    await self.drop(name)

    async def _names(self, kind: str) -> list[str]:
        rows = await self._lease.fetch("SELECT datname FROM pg_database WHERE datname ~ $1", f"^{PREFIX}_{OURS[kind]}$")
        return [row["datname"] for row in rows]

    async def _clone(self, connection: asyncpg.Connection, name: str) -> None:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{self.template}" STRATEGY {self._strategy}')

    async def _clone_aside(self) -> str:
        name = self._next_name()
        async with self._aside() as connection:
            await self._clone(connection, name)
        return name

    async def _drop_aside(self, names: list[str]) -> None:
        async with self._aside() as connection:
            for name in names:
                await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @asynccontextmanager
    async def _aside(self) -> AsyncGenerator[asyncpg.Connection]:
        """Lend the one connection for work in the background: a new one each time would cost as much as the work."""
        async with self._one_at_a_time:
            if self._helper is None:
                self._helper = await self._connect(self.name)
            yield self._helper

    def _next_name(self) -> str:
        return f"{self.name}_{next(self._numbers)}"

    @staticmethod
    def _in_background(work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(work, name=TASK_NAME)
