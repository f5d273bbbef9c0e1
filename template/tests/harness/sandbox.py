"""How a test is isolated: all its connections are virtual and share one real one, whose transaction never commits.

The application keeps its engine, its pool and its sessions; only the driver's connections come from here. On a virtual
connection BEGIN, COMMIT and ROLLBACK become SAVEPOINT, RELEASE and ROLLBACK TO, inside one outer transaction that is
rolled back when the test is over. The idea is that of Ecto's SQL sandbox (https://hexdocs.pm/ecto_sql).

Savepoints form a stack, while the transactions of a server stand side by side. Three rules make up for that:

- A transaction that is begun while another one is open waits for its turn, first come, first served: so requests that
  run at the same time do not disturb each other.
- One that is begun *inside* another - by the same task, or by a task which that one started - goes on top of it,
  because the outer one would wait for it in vain.
- A transaction that another one covers can go on as long as the covering one has only read: that one is *lifted* off
  the stack, and put back when it goes on.

What a stack cannot express is refused, or reported at the end of the test, with the advice to use
`@pytest.mark.real_db`. The test `tests/integration/harness/test_sandbox.py` shows what works and what does not.
"""

import asyncio
import enum
import itertools
import re
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any

import asyncpg

from tests.harness.lifespan_tasks import belongs_to_lifespan
from tests.harness.session_state import EVERYTHING, Change, effects_of, effects_of_functions, quoted
from tests.harness.text import shortened

ADVICE = "on a server of its own this works: mark the test with @pytest.mark.real_db"
READ = re.compile(r"\s*(;|select|show|table|values|with|set\s+(?!constraints|transaction)|reset)\b", re.IGNORECASE)
WRITE = re.compile(r"\b(insert|update|delete|merge|nextval|setval|lock|into|call)\b", re.IGNORECASE)

CHECK_DEFERRED = "SAVEPOINT deferred;SET CONSTRAINTS ALL IMMEDIATE;ROLLBACK TO deferred;RELEASE deferred"
"""Runs the checks that a server puts off until COMMIT, and leaves the constraints as they were."""

END_DEFERRING = """
    SET CONSTRAINTS ALL IMMEDIATE;
    DO $$ BEGIN EXECUTE coalesce(
        (SELECT 'SET CONSTRAINTS ' || string_agg(format('%I.%I', nspname, conname), ', ') || ' DEFERRED'
        FROM pg_constraint JOIN pg_namespace ON pg_namespace.oid = connamespace WHERE condeferred), 'SELECT 1');
    END $$
"""
"""Runs what a server puts off until COMMIT, triggers included, and has the constraints as they are after it."""

FIND_FUNCTIONS = """
    SELECT proname, prosrc FROM pg_proc
    WHERE pronamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema') AND prosrc ~* 'set'
"""

READ_SETTING = "SELECT current_setting($1, true)"

TEMPORARY_TABLES = """
    SELECT 'the temporary table ' || relname AS what FROM pg_class
    WHERE relnamespace = pg_my_temp_schema() AND relkind = 'r'
"""

PREPARED_AND_LOCKED = """
    SELECT 'the prepared statement ' || name AS what, name
    FROM pg_prepared_statements WHERE from_sql AND name <> 'inspection'
    UNION ALL
    SELECT 'a session''s advisory lock', NULL FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
"""

MAY_DEFER = """
    SELECT EXISTS (SELECT FROM pg_constraint WHERE condeferrable) OR EXISTS (SELECT FROM pg_trigger WHERE tgdeferrable)
"""

TAKE_CENSUS = """
    SELECT concat('SELECT 0, 0, max(oid)::bigint FROM pg_class', string_agg(format(
        ' UNION ALL SELECT %s, count(*), coalesce(max(xmin::text::bigint), 0) FROM %s', oid, oid::regclass), ''))
    FROM pg_class
    WHERE relkind = 'r' AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
"""
"""Makes a query for the number of rows in each table, and for the newest of the transactions that wrote them."""

INSPECT = "EXECUTE inspection"

VACUUM_EVERY = 500
"""After so many tests their rows, rolled back but still in the tables, begin to slow down the next ones."""

Work = Callable[..., Awaitable[Any]]

serving: ContextVar[bool] = ContextVar("serving", default=False)
"""Whether the application serves a request here: what it leaves in a connection, the next request finds."""

_begun_here: ContextVar[tuple[int, ...]] = ContextVar("begun_here", default=())
"""The numbers of the transactions that this task, or a task it descends from, has begun."""


class SandboxError(RuntimeError):
    """The test does something that needs a database of its own."""


@lru_cache(maxsize=1000)
def only_reads(sql: str) -> bool:
    """Say whether a statement surely leaves no trace. Functions with side effects are not seen through."""
    return sql.strip() == ";" or bool(READ.match(sql) and not WRITE.search(sql))


@lru_cache(maxsize=1000)
def speaks_of_deferring(sql: str) -> bool:
    """Say whether a statement may make a constraint whose check is put off."""
    return "deferr" in sql.lower()


class State(enum.Enum):
    """Where a virtual transaction stands."""

    NEW = "not begun"
    OPEN = "open"
    LIFTED = "off the stack until it goes on"
    COMMITTED_BELOW = "committed, but covered by an open one"
    DONE = "over"
    LOST = "rolled back together with the one below it"


class VirtualTransaction:
    """Stands in for `asyncpg.transaction.Transaction`."""

    def __init__(self, sandbox: "Sandbox", connection: "VirtualConnection") -> None:
        self.sandbox = sandbox
        self.connection = connection
        self.number = next(sandbox.numbers)
        self.savepoint = f"sandbox_{self.number}"
        self.state = State.NEW
        self.task = asyncio.current_task()
        self.has_written = False
        self.is_busy = False
        self.holds_commits_of_others = False
        self.local: dict[str, str] = {}
        """What it has set for itself alone."""
        self.on_commit: dict[str, None] = {}
        """SQL that does what a real COMMIT does."""
        self.before: tuple[dict[str, str], dict[str, str]] = ({}, {})
        """What was set when it began: on the real connection, and for its own session."""

    async def start(self) -> None:
        """Begin."""
        await self.sandbox.begin(self)
        self.connection.transaction_in_progress = self

    async def commit(self) -> None:
        """Commit."""
        self.connection.transaction_in_progress = None
        await self.sandbox.commit(self)

    async def rollback(self) -> None:
        """Roll back."""
        self.connection.transaction_in_progress = None
        await self.sandbox.rollback(self)

    def __str__(self) -> str:
        return f"the transaction that {self.task.get_name() if self.task else 'nobody'} began"


class VirtualCursor:
    """Stands in for `asyncpg.cursor.Cursor`, which reads a result bit by bit."""

    def __init__(self, connection: "VirtualConnection", factory: Any) -> None:
        self._connection = connection
        self._factory = factory

    def __await__(self) -> Generator[Any, None, "VirtualCursor"]:
        return self._open().__await__()

    async def _open(self) -> "VirtualCursor":
        if self._connection.transaction_in_progress is None:
            raise asyncpg.NoActiveSQLTransactionError("a cursor needs a transaction")
        self._transaction = self._connection.transaction_in_progress
        self._cursor = await self._connection.run("DECLARE CURSOR", lambda: self._factory)
        return self

    async def fetch(self, number: int) -> list[Any]:
        """Return the next rows."""
        if self._connection.transaction_in_progress is not self._transaction:
            raise asyncpg.InvalidCursorNameError("the transaction of this cursor is over")
        rows: list[Any] = await self._connection.run("FETCH", self._cursor.fetch, number)
        return rows


class VirtualStatement:
    """Stands in for `asyncpg.prepared_stmt.PreparedStatement`."""

    def __init__(self, connection: "VirtualConnection", statement: Any) -> None:
        self._connection = connection
        self._statement = statement
        self.get_attributes = statement.get_attributes
        self.get_statusmsg = statement.get_statusmsg

    async def fetch(self, *arguments: object) -> list[Any]:
        """Run the statement and return its rows."""
        rows: list[Any] = await self._connection.run(self._statement.get_query(), self._statement.fetch, *arguments)
        return rows

    def cursor(self, *arguments: object, **options: object) -> VirtualCursor:
        """Run the statement and return a cursor over its rows."""
        return VirtualCursor(self._connection, self._statement.cursor(*arguments, **options))


class VirtualConnection:
    """Stands in for `asyncpg.Connection`, as far as SQLAlchemy uses it."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self._sandbox = sandbox
        self._real = sandbox.real
        self._closed = False
        self.transaction_in_progress: VirtualTransaction | None = None
        self.on_commits: dict[str, None] = {}
        """SQL that does what each real COMMIT does here."""
        self.settings: dict[str, str] = {}
        """What was set for its whole session."""
        self.first_settings: dict[str, str] | None = None
        """Those that it was made with, once it is in use."""

    def transaction(self, **_characteristics: object) -> VirtualTransaction:
        """Make a transaction. Its isolation level is accepted and has no effect."""
        return VirtualTransaction(self._sandbox, self)

    async def run(self, sql: str, work: Work, *arguments: object, **options: object) -> Any:
        """Do the work of one statement when its transaction may; outside of a transaction, in one of its own."""
        if self.is_closed():
            raise asyncpg.InterfaceError("connection is closed")
        transaction = self.transaction_in_progress
        if transaction is not None:
            return await self._sandbox.run(transaction, sql, work, *arguments, **options)
        transaction = VirtualTransaction(self._sandbox, self)
        await self._sandbox.begin(transaction)
        try:
            result = await self._sandbox.run(transaction, sql, work, *arguments, **options)
        except BaseException:
            await self._sandbox.rollback(transaction)
            raise
        await self._sandbox.commit(transaction)
        return result

    async def prepare(self, sql: str, **options: Any) -> VirtualStatement:
        """Prepare a statement, which is no part of any transaction, but spoils the one it fails in."""
        self._sandbox.check_loop()
        if self.transaction_in_progress is None:
            return VirtualStatement(self, await self.run(";", self._real.prepare, sql, **options))
        async with self._sandbox.mutex:
            await self._sandbox.apply_settings(self.transaction_in_progress)
            return VirtualStatement(self, await self._real.prepare(sql, **options))

    async def execute(self, sql: str, *arguments: object, **options: Any) -> Any:
        """Run a statement and return its status."""
        return await self.run(sql, self._real.execute, sql, *arguments, **options)

    async def executemany(self, sql: str, arguments: Any, **options: Any) -> None:
        """Run a statement once for each of the arguments."""
        await self.run(sql, self._real.executemany, sql, arguments, **options)

    async def fetch(self, sql: str, *arguments: object, **options: Any) -> Any:
        """Run a statement and return its rows."""
        return await self.run(sql, self._real.fetch, sql, *arguments, **options)

    async def fetchrow(self, sql: str, *arguments: object, **options: Any) -> Any:
        """Run a statement and return its first row."""
        return await self.run(sql, self._real.fetchrow, sql, *arguments, **options)

    async def fetchval(self, sql: str, *arguments: object, **options: Any) -> Any:
        """Run a statement and return the first value of its first row."""
        return await self.run(sql, self._real.fetchval, sql, *arguments, **options)

    async def set_type_codec(self, typename: str, **codec: Any) -> None:
        """Set a codec; it belongs to the real connection, so once is enough."""
        if typename not in self._sandbox.codecs:
            self._sandbox.codecs.add(typename)
            await self._real.set_type_codec(typename, **codec)

    async def reload_schema_state(self) -> None:
        """Forget what is known of types."""
        async with self._sandbox.mutex:
            await self._real.reload_schema_state()

    def is_closed(self) -> bool:
        """Say whether this connection, or the real one, is gone."""
        return self._closed or self._real is not self._sandbox.real or self._real.is_closed()

    def use(self) -> None:
        """Note that it is in use from now on: what is set later is not a part of how connections are made."""
        if self.first_settings is None:
            self.first_settings = dict(self.settings)

    async def close(self, **_options: object) -> None:
        """Close this connection: what it has not committed is rolled back."""
        was_closed, self._closed = self._closed, True
        if not was_closed and self.transaction_in_progress is not None:
            await self.transaction_in_progress.rollback()

    def terminate(self) -> None:
        """Close this connection at once: what it has not committed is rolled back before the next statement."""
        self._closed = True
        if self.transaction_in_progress is not None:
            self._sandbox.abandon(self.transaction_in_progress)
            self.transaction_in_progress = None

    def __getattr__(self, name: str) -> Any:
        raise SandboxError(f"The sandbox has no `{name}` of asyncpg; {ADVICE}")


Waiting = tuple[asyncio.Future[None], VirtualTransaction, tuple[int, ...]]
"""Who waits for a turn: the turn, the transaction, and the numbers of those it may stand on."""


class Frame:
    """One level of what is rolled back together: the test's, and around it that of data seeded for a module."""

    def __init__(self, depth: int) -> None:
        savepoint = f"frame_{depth}"
        self.begin, self.end = f"SAVEPOINT {savepoint}", f"ROLLBACK TO {savepoint};RELEASE {savepoint}"
        self.is_outermost = depth == 0
        if self.is_outermost:
            self.begin, self.end = "BEGIN", f"ROLLBACK;SELECT pg_advisory_unlock_all();{INSPECT}"
        self.has_begun = False
        self.applied: dict[str, str] = {}


class Sandbox:
    """The real connection, and the stack of the virtual transactions that are open on it."""

    def __init__(self, database: str, patience: float = 5.0) -> None:
        """Prepare a sandbox in `database`. A transaction waits at most `patience` seconds for its turn."""
        self.database = database
        self.patience = patience
        self.real: Any = None
        self.codecs: set[str] = set()
        self.mutex = asyncio.Lock()
        self.numbers = itertools.count(1)
        self._loop = asyncio.get_running_loop()
        self._frames: list[Frame] = []
        self._stack: list[VirtualTransaction] = []
        self._queue: list[Waiting] = []
        self._moved = asyncio.Event()
        self.waiting_of_lifespan = 0
        """How many tasks of the lifespan wait for a test that they can work in."""
        self._faults: list[str] = []
        self._doubt: str | None = None
        self._debt = ""
        self._may_defer = False
        self._rolled_back = 0
        self._baseline: dict[str, str | None] = {}
        self._applied: dict[str, str] = {}
        self._functions: dict[str, tuple[Change, ...]] = {}
        self._changed: dict[VirtualConnection, bool] = {}
        self._may_last = self._blamed = False
        self.is_spoilt = False
        """Whether the database is no longer what it was: it has to be made anew."""

    # ------------------------------------------------------------------ connections

    async def connect(self, **arguments: Any) -> VirtualConnection:
        """Return a new virtual connection. The engine calls this in place of `asyncpg.connect`."""
        self.check_loop()
        async with self.mutex:
            if self.real is None or self.real.is_closed():
                never = {"idle_in_transaction_session_timeout": "0"}  # A debugger may stop the test for long.
                arguments["server_settings"] = arguments.get("server_settings", {}) | never
                self.real = await asyncpg.connect(**arguments | {"database": self.database})
                self.codecs.clear()
                self._baseline.clear()
                self._applied.clear()
                await self._find_functions()
                self._may_defer = await self.real.fetchval(MAY_DEFER)
                await self._prepare_inspection()
        return VirtualConnection(self)

    async def close(self) -> None:
        """Close the real connection."""
        real, self.real = self.real, None
        if real is not None:
            await real.close()

    # ------------------------------------------------------------------ what a test leaves behind

    def open_frame(self) -> None:
        """Begin what the matching `close_frame` rolls back. Nothing is sent before it is needed."""
        self._frames.append(Frame(len(self._frames)))
        self._moved.set()

    async def close_frame(self) -> list[str]:
        """Roll back everything since the matching `open_frame`, and return what went wrong meanwhile."""
        await self._let_lifespan_finish()
        frame = self._frames.pop()
        faults = self.take_faults()
        faults += [
            f"a session was left open: {transaction} is not over"
            for transaction in self._stack
            if not belongs_to_lifespan(transaction.task)
        ]
        self._forget_transactions()
        self._doubt = None
        faults += self._forget_settings()
        if self.real is None:
            return faults
        if self.real.is_closed():
            return [*faults, "the connection to the database was lost"]
        if frame.has_begun and not self.real.is_in_transaction():
            self.is_spoilt = True
            return [*faults, f"raw SQL ended the sandbox's transaction; {ADVICE}"]
        if self.real.is_in_transaction():
            faults += await self._remains(frame)
            if not await self._roll_back(frame):
                self.is_spoilt = True
                faults.append("rows were stored that outlive the test")
        if frame.has_begun:
            self._applied = frame.applied
        return faults

    async def _let_lifespan_finish(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self.patience):
                while any(belongs_to_lifespan(transaction.task) for transaction in self._stack):
                    self._moved.clear()
                    await self._moved.wait()

    def take_faults(self) -> list[str]:
        """Return the faults noted so far, and forget them."""
        faults = list(dict.fromkeys(self._faults))
        self._faults.clear()
        return faults

    async def commit_for_inspection(self) -> bool:
        """Store what a failed test has written so far. Returns False when it has written nothing."""
        begun = any(frame.has_begun for frame in self._frames)
        if begun and self.real.is_in_transaction():
            for transaction in reversed(self._stack):
                try:
                    await self._send("SELECT 1")
                    break
                except asyncpg.InFailedSQLTransactionError:  # COMMIT would roll everything back.
                    await self._send(f"ROLLBACK TO {transaction.savepoint}")
            await self._send("COMMIT")
            self._applied.clear()
        self._forget_transactions()
        for frame in self._frames:
            frame.has_begun = False
        return begun

    # ------------------------------------------------------------------ transactions

    async def begin(self, transaction: VirtualTransaction) -> None:
        """Begin a transaction, when its turn has come.

        Raises:
            SandboxError: its turn did not come in time.
        """
        self.check_loop()
        await self._wait_for_a_test()
        if not self._frames:
            raise self._report(
                "the database was used outside of a test, as a fixture of the scope session, package or class does: "
                "seed with `module_session` in a fixture of the scope module, or with `db_session` in one of a test"
            )
        if self._doubt:  # Something goes on after the doubtful rollback, so it matters.
            self._report(self._doubt)
            self._doubt = None
        await self._take_turn(transaction)
        waiting = [frame for frame in self._frames if not frame.has_begun]
        try:
            await self._send(";".join([*(frame.begin for frame in waiting), f"SAVEPOINT {transaction.savepoint}"]))
        except BaseException as error:
            self._leave(transaction, State.DONE)
            if isinstance(error, asyncpg.InFailedSQLTransactionError):
                raise self._report(f"the transaction below has failed and was not rolled back; {ADVICE}") from None
            raise
        for frame in waiting:
            frame.has_begun = True
            frame.applied = dict(self._applied)
        transaction.before = dict(self._applied), dict(transaction.connection.settings)
        transaction.state = State.OPEN

    async def commit(self, transaction: VirtualTransaction) -> None:
        """Commit a transaction; below an open one, as soon as that one is over."""
        if transaction.state is State.LIFTED:
            transaction.state = State.DONE
            return
        self._check_open(transaction)
        await self._lift_what_covers(transaction)
        if self._stack[-1] is not transaction:
            transaction.state = State.COMMITTED_BELOW
            return
        try:
            await self._release(transaction)
        except asyncpg.PostgresError:
            await self.rollback(transaction)
            raise
        self._end(transaction, committed=True)
        await self._settle()

    async def rollback(self, transaction: VirtualTransaction) -> None:
        """Roll a transaction back, and with it what stands above it."""
        if transaction.state in (State.LIFTED, State.LOST):
            transaction.state = State.DONE
            return
        if not self.real.is_in_transaction():  # Raw SQL has ended everything; `close_frame` reports it.
            self._end(transaction, committed=False)
            return
        self._check_open(transaction)
        await self._lift_what_covers(transaction)
        if self._stack[-1] is not transaction:
            self._doubt = f"a rollback took along a transaction that another connection had open; {ADVICE}"
        elif transaction.holds_commits_of_others:
            self._doubt = f"a rollback took along what another connection had committed meanwhile; {ADVICE}"
        try:
            await self._send(f"ROLLBACK TO {transaction.savepoint};RELEASE {transaction.savepoint}")
        finally:
            self._restore_settings(transaction)
            self._end(transaction, committed=False)
        await self._settle()

    async def run(
        self, transaction: VirtualTransaction, sql: str, work: Work, *arguments: object, **options: object
    ) -> Any:
        """Do the work of a transaction's next statement, when the transaction is on top of the stack.

        Raises:
            SandboxError: what covers it has written, and does not end in time, or cannot.
        """
        if transaction.state is State.LIFTED:
            await self.begin(transaction)
        self._check_open(transaction)
        await self._lift_what_covers(transaction)
        if self._stack[-1] is not transaction:
            await self._wait_for_the_top(transaction)
        if not only_reads(sql):
            transaction.has_written = True
            self._may_defer = self._may_defer or speaks_of_deferring(sql)
        transaction.is_busy = True  # So that nobody lifts it before the statement is through.
        try:
            async with self.mutex:
                await self.apply_settings(transaction)
                effects = effects_of(sql)
                if effects is None and not self._functions:
                    return await work(*arguments, **options)
                parameters = arguments[1:] if arguments[:1] == (sql,) else arguments
                changes = [change.resolved(parameters) for change in effects.changes] if effects else []
                for function, its_changes in self._functions.items():
                    if f"{function}(" in sql:
                        changes += [change.resolved(()) for change in its_changes]
                if any(name is None for name, _ in changes):
                    self._report(f"the sandbox cannot tell which setting this changes: {shortened(sql)}; {ADVICE}")
                if effects:
                    if effects.refused:
                        raise self._report(f"{effects.refused} has no effect before a real COMMIT; {ADVICE}")
                    transaction.on_commit |= dict.fromkeys(effects.on_commit)
                    if effects.on_commits:
                        transaction.connection.on_commits |= dict.fromkeys(effects.on_commits)
                        self._changed.setdefault(transaction.connection, False)
                    if effects.lasts:
                        self._may_last = True
                        self._blamed = self._blamed or serving.get()
                result = await self._change_settings(transaction, changes, partial(work, *arguments, **options))
                if effects and effects.defines:
                    await self._find_functions()
                return result
        except (asyncpg.ActiveSQLTransactionError, asyncpg.InvalidTransactionTerminationError) as error:
            raise self._report(f"{error}; {ADVICE}") from error
        finally:
            transaction.is_busy = False

    async def _wait_for_the_top(self, transaction: VirtualTransaction) -> None:
        try:
            async with asyncio.timeout(self.patience):
                while self._stack[-1] is not transaction:
                    if self._stack[-1].task is asyncio.current_task():
                        raise TimeoutError
                    self._moved.clear()
                    await self._moved.wait()
                    self._check_open(transaction)
        except TimeoutError:
            raise self._report(
                f"{transaction} is covered by another one that has written and is open; {ADVICE}"
            ) from None

    def abandon(self, transaction: VirtualTransaction) -> None:
        """Roll a transaction back before whatever is sent next."""
        if transaction in self._stack:
            self._debt += f"ROLLBACK TO {transaction.savepoint};RELEASE {transaction.savepoint};"
            self._restore_settings(transaction)
            self._leave(transaction, State.DONE)

    # ------------------------------------------------------------------ what transactions and sessions set

    async def apply_settings(self, transaction: VirtualTransaction) -> None:
        """Have the real connection's settings be those of this transaction and its session."""
        wanted = transaction.connection.settings
        if transaction.local:
            wanted = wanted | transaction.local
        if wanted == self._applied:
            return
        values = {name: self._baseline[name] or "" for name in self._applied if name not in wanted} | wanted
        calls = [f"pg_catalog.set_config({quoted(name)}, {quoted(value)}, true)" for name, value in values.items()]
        await self.real.execute(f"SELECT {', '.join(calls)}")
        self._applied = dict(wanted)

    async def _change_settings(
        self, transaction: VirtualTransaction, changes: list[tuple[str | None, bool]], work: Work
    ) -> Any:
        """Do the work of a statement that changes settings, and note whose they are."""
        session, local = transaction.connection.settings, transaction.local
        is_local = {name: only_here for name, only_here in changes if name is not None}
        if EVERYTHING in is_local:
            is_local = {name: name in local for name in (*session, *local)}
        for name in is_local.keys() - self._baseline.keys():
            self._baseline[name] = await self.real.fetchval(READ_SETTING, name)
        result = await work()
        for name, only_here in is_local.items():
            value: str = await self.real.fetchval(READ_SETTING, name) or ""
            for values in (local,) if only_here else (session, self._applied):
                values[name] = value
            if not only_here:
                local.pop(name, None)
                if value == (self._baseline[name] or ""):
                    del session[name]
                if transaction.connection.first_settings is not None:
                    self._changed[transaction.connection] = serving.get()
            self._applied[name] = value
        return result

    def _restore_settings(self, transaction: VirtualTransaction) -> None:
        """Note what a rollback does to settings."""
        self._applied, transaction.connection.settings = map(dict, transaction.before)

    def _forget_settings(self) -> list[str]:
        """Have the sessions be as they were made, and return what was set for longer than a transaction."""
        faults: list[str] = []
        for connection, by_request in self._changed.items():
            first = connection.first_settings or {}
            faults += [
                f"a connection went back to the pool with {name} set, for any request that is next: use SET LOCAL, "
                f"set_config(..., true) or RESET; {ADVICE}"
                for name in sorted(connection.settings.keys() - first.keys())
                if by_request
            ]
            connection.settings = dict(first)
            connection.on_commits.clear()
        self._changed.clear()
        return faults

    async def _remains(self, frame: Frame) -> list[str]:
        """Return what no transaction ends and no session has ended, if there may be something of that kind."""
        if not self._may_last:
            return []
        blamed, found = self._blamed, list[str]()
        with suppress(asyncpg.InFailedSQLTransactionError):
            found += [row["what"] for row in await self.real.fetch(TEMPORARY_TABLES)]
        if frame.is_outermost:
            await self._send("ROLLBACK")
            for row in await self.real.fetch(PREPARED_AND_LOCKED):
                found.append(row["what"])
                if row["name"]:
                    await self._send(f'DEALLOCATE "{row["name"]}"')
            self._may_last = self._blamed = False
        advice = "was left by a request in its connection, which the pool gives to the next"
        return [f"{what} {advice}" for what in found if blamed]

    # ------------------------------------------------------------------ the stack

    async def _wait_for_a_test(self) -> None:
        """Have a task of the lifespan wait, for any time, until there is a test and nothing else is open in it."""
        if not belongs_to_lifespan(asyncio.current_task()):
            return
        ancestors = _begun_here.get()
        self.waiting_of_lifespan += 1
        try:
            while not self._frames or (self._stack and self._stack[-1].number not in ancestors):
                self._moved.clear()
                await self._moved.wait()
        finally:
            self.waiting_of_lifespan -= 1

    async def _take_turn(self, transaction: VirtualTransaction) -> None:
        transaction.task = asyncio.current_task()
        ancestors = _begun_here.get()
        if not self._stack or self._stack[-1].number in ancestors:
            self._stack.append(transaction)
        else:
            turn: asyncio.Future[None] = self._loop.create_future()
            entry = (turn, transaction, ancestors)
            self._queue.append(entry)
            try:
                await asyncio.wait_for(turn, self.patience)
            except BaseException as error:
                if entry in self._queue:
                    self._queue.remove(entry)
                if transaction in self._stack:  # The turn came at the very moment of the cancellation.
                    self._leave(transaction, State.DONE)
                if not isinstance(error, TimeoutError):
                    raise
                name = asyncio.current_task()
                holder = self._stack[-1] if self._stack else "another one"
                raise self._report(
                    f"{name.get_name() if name else 'a transaction'} waited {self.patience} s for {holder}, "
                    f"which is still open: commit or close it first; or, if the two are to overlap, {ADVICE}"
                ) from None
        _begun_here.set((*ancestors, transaction.number))

    def _leave(self, transaction: VirtualTransaction, state: State) -> None:
        """Take a transaction off the stack, with what stands above it, and let the next one have its turn."""
        if transaction in self._stack:
            position = self._stack.index(transaction)
            for above in self._stack[position + 1 :]:
                above.state = State.LOST
            del self._stack[position:]
        transaction.state = state
        _begun_here.set(tuple(number for number in _begun_here.get() if number != transaction.number))
        self._moved.set()
        for entry in self._queue:
            turn, waiting, ancestors = entry
            if not turn.done() and (not self._stack or self._stack[-1].number in ancestors):
                self._queue.remove(entry)
                self._stack.append(waiting)
                turn.set_result(None)
                break

    def _end(self, transaction: VirtualTransaction, *, committed: bool) -> None:
        """Note that a transaction is over, and on whom its rows now depend."""
        if transaction in self._stack:
            position = self._stack.index(transaction)
            below = self._stack[position - 1] if position else None
            leaves_rows = transaction.has_written or transaction.holds_commits_of_others
            if committed and leaves_rows and below and below.connection is not transaction.connection:
                below.holds_commits_of_others = True
        self._leave(transaction, State.DONE)

    async def _settle(self) -> None:
        """Finish the commits that had to wait for a transaction above them."""
        while self._stack and self._stack[-1].state is State.COMMITTED_BELOW:
            waiting = self._stack[-1]
            await self._release(waiting)
            self._end(waiting, committed=True)

    async def _release(self, transaction: VirtualTransaction) -> None:
        """Release a transaction's savepoint, after all that a real COMMIT does first."""
        steps = [*transaction.on_commit, *transaction.connection.on_commits, f"RELEASE {transaction.savepoint}"]
        if transaction.has_written and self._may_defer:
            steps.insert(0, CHECK_DEFERRED if len(self._stack) > 1 else END_DEFERRING)
        await self._send(";".join(steps))

    async def _lift_what_covers(self, transaction: VirtualTransaction) -> None:
        while self._stack[-1] is not transaction:
            top = self._stack[-1]
            if top.state is not State.OPEN or top.has_written or top.is_busy or top.holds_commits_of_others:
                return
            await self._send(f"RELEASE {top.savepoint}")
            self._leave(top, State.LIFTED)

    def _check_open(self, transaction: VirtualTransaction) -> None:
        if transaction.state is not State.OPEN:
            raise self._report(f"{transaction} is {transaction.state.value}; {ADVICE}")

    def _forget_transactions(self) -> None:
        for transaction in self._stack:
            transaction.state = State.LOST
        self._stack.clear()
        self._debt = ""
        self._moved.set()

    # ------------------------------------------------------------------ the real connection

    async def _send(self, sql: str) -> str:
        async with self.mutex:
            debt, self._debt = self._debt, ""
            status: str = await self.real.execute(debt + sql)
            return status

    async def _roll_back(self, frame: Frame) -> bool:
        """Roll a frame back. Returns False if the database is not, after the outermost one, what it was at first."""
        if not frame.is_outermost:
            if frame.has_begun:
                await self._send(frame.end)
            return True
        self._rolled_back += 1
        try:
            if self._rolled_back % VACUUM_EVERY == 0:
                await self._send("ROLLBACK")
                await self._send("VACUUM")
            return await self._send(frame.end) == "SELECT 0"
        except asyncpg.PostgresError:  # The transaction is over, but a table that was there is not.
            return False

    async def _find_functions(self) -> None:
        """Learn which functions change settings."""
        self._functions = effects_of_functions(dict(await self.real.fetch(FIND_FUNCTIONS)))

    async def _prepare_inspection(self) -> None:
        """Prepare a statement that returns a row for each table that is no longer what it is now, or has come since.

        By SQL and not through asyncpg, so that it is sent together with the ROLLBACK: a round trip less in each test.
        """
        census = await self.real.fetchval(TAKE_CENSUS)
        known = ", ".join("({}, {}, {})".format(*row) for row in await self.real.fetch(census))
        await self.real.execute(
            f"PREPARE inspection AS SELECT FROM ({census}) AS found (id, rows, newest) "
            f"WHERE (id, rows, newest) NOT IN ({known})"
        )

    def _report(self, fault: str) -> SandboxError:
        """Note a fault for the end of the test - the application may swallow the error - and return it as an error."""
        self._faults.append(fault)
        return SandboxError(fault)

    def check_loop(self) -> None:
        """Refuse to work on another event loop.

        Raises:
            SandboxError: this is another one.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise self._report(
                "the database was used from a second event loop, as TestClient and a loop_scope of a test do: use the "
                "fixture `client`, and keep both asyncio_default_*_loop_scope settings in pytest.ini at `session`"
            )
