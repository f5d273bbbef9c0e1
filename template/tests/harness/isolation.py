"""Which database a test works on, and what it left behind."""

import asyncio
import gc
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.util import greenlet_spawn

from tests.harness.advice import give_advice
from tests.harness.databases import TASK_NAME, Databases
from tests.harness.lifespan_tasks import LIFESPAN, belongs_to_lifespan
from tests.harness.queries import record_queries
from tests.harness.sandbox import Sandbox, VirtualConnection
from tests.harness.text import listed

PATIENCE = 2
"""For how many seconds to wait for tasks of the lifespan."""


class Isolation:
    """Connects the application's engine to the sandbox, or to a database of the test's own.

    The engine asks it for every connection, through SQLAlchemy's event `do_connect`: the application's own engine is
    tested, with its own pool and options, and nothing is replaced.
    """

    def __init__(self, databases: Databases) -> None:
        self.databases = databases
        self.sandbox = Sandbox(databases.name)
        self.database = databases.name
        self.sessions: list[AsyncSession] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    def attach(self, engine: AsyncEngine) -> None:
        """Make `engine` take its connections from here."""
        self.engine = engine
        event.listen(engine.sync_engine, "do_connect", self._redirect)
        event.listen(engine.sync_engine, "checkout", _note_use)
        record_queries(engine)
        give_advice(engine)

    async def begin(self, private: str | None = None) -> None:
        """Begin a test: in the database `private`, or in the sandbox."""
        self._tasks = asyncio.all_tasks()
        if private is None:
            self.sandbox.open_frame()
            return

        self.sandbox.open_frame()  # For tasks of the lifespan that wait for it with a connection.
        await self._let_lifespan_finish(self._checked_out)
        self.database = private
        await self._dispose()
        await self.sandbox.close_frame()

    async def end(self) -> list[str]:
        """End a test: roll back or disconnect, and return what it left behind."""
        await self._let_lifespan_finish(self._busy)
        faults = self._leftovers()
        if self.database == self.databases.name:
            faults += await self.sandbox.close_frame()
        else:
            self.database = self.databases.name
            await self._dispose()
        if faults:  # Nothing of this test is to be handed to the next one, nor its warnings.
            await self._dispose()
            with warnings.catch_warnings(action="ignore"):
                gc.collect()
        if self.sandbox.is_spoilt:
            await self.renew()
        return faults

    async def renew(self) -> None:
        """Make the sandbox's database anew."""
        await self._dispose()
        await self.sandbox.close()
        await self.databases.clone(self.databases.name)
        self.sandbox.is_spoilt = False

    async def commit_pending(self) -> None:
        """Commit what the test's own sessions have open, as a test on a real server would have to before a request."""
        for session in self.sessions:
            if session.in_transaction():
                await session.commit()

    async def close(self) -> None:
        """Close the sandbox."""
        await self.sandbox.close()

    def _redirect(
        self, _dialect: Dialect, _entry: ConnectionPoolEntry, _cargs: list[Any], cparams: dict[str, Any]
    ) -> None:
        if self.database == self.databases.name:
            cparams["async_creator_fn"] = self.sandbox.connect
        else:
            cparams["database"] = self.database

    async def _let_lifespan_finish(self, connections: Callable[[], int]) -> None:
        """Wait for a moment in which no task of the lifespan works with the database."""
        give_up = asyncio.get_running_loop().time() + PATIENCE
        while connections() and asyncio.get_running_loop().time() < give_up:
            if not any(belongs_to_lifespan(task) and task.get_name() != LIFESPAN for task in asyncio.all_tasks()):
                return
            await asyncio.sleep(0.001)

    async def _dispose(self) -> None:
        """Give the engine another pool, and close the connections of the last one."""
        last = self.engine.sync_engine.pool
        await self.engine.dispose(close=False)  # At once: a task of the lifespan may take one while others are closed.
        await greenlet_spawn(last.dispose)

    def _busy(self) -> int:
        """Return how many connections are not in the pool, without those in which the lifespan waits for a test."""
        return max(0, self._checked_out() - self.sandbox.waiting_of_lifespan)

    def _checked_out(self) -> int:
        """Return how many connections are not in the pool."""
        return int(getattr(self.engine.pool, "checkedout", int)())

    def _leftovers(self) -> list[str]:
        faults: list[str] = []
        idle, busy = getattr(self.engine.pool, "checkedin", int)(), self._busy()
        if idle and self.database == self.databases.name and self.sandbox.real is None:
            faults.append("the engine is not connected to the sandbox: the test has worked without isolation")
        if busy:
            faults.append(f"a session was left open: {busy} connection(s) did not come back to the pool")
        tasks = asyncio.all_tasks() - self._tasks - {asyncio.current_task()}
        for task in tasks:
            if task.get_name() != TASK_NAME and not belongs_to_lifespan(task):
                task.cancel()
                faults.append(f"a task was left running: {getattr(task.get_coro(), '__qualname__', task.get_name())}")
        return faults


def _note_use(connection: Any, _record: object, _proxy: object) -> None:
    if isinstance(connection.driver_connection, VirtualConnection):
        connection.driver_connection.use()


def fail_for(faults: list[str]) -> None:
    """End the current test red, if there is anything to complain about."""
    if faults:
        pytest.fail("\n".join(listed(faults)), pytrace=False)
