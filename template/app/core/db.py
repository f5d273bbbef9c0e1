"""The database: the declarative base, the engine, and the session a request works in."""

import re
from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from datetime import datetime
from functools import lru_cache
from inspect import isroutine
from typing import Any, ClassVar

import asyncpg
from sqlalchemy import DateTime, MetaData, event
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Session, SessionTransaction, SessionTransactionOrigin
from sqlalchemy.pool import NullPool

from app.core.config import Settings
from app.core.errors import DatabaseUnavailableError

MIGRATION_LOCK = 7_234_815
"""The advisory lock that lets one replica migrate at a time. Any number will do, as long as all use the same."""

GOODBYE = 0.25
"""For how many seconds to wait until the server has closed a connection that is not needed any more."""

ARGUMENT = re.compile(r"(query argument \$\d+[^:]*): .*", re.DOTALL)
IN_QUOTES = re.compile(r"""(["']).*\1""", re.DOTALL)
DATA_EXCEPTION = "22"
"""The class of the SQLSTATEs whose messages repeat a value."""


class Base(DeclarativeBase):
    """The base of every model. Constraints get predictable names, so that migrations can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {datetime: DateTime(timezone=True)}


AsyncSessionLocal = async_sessionmaker(expire_on_commit=False)
"""Makes the sessions of the whole process. `bind_engine` tells it which engine to use; until then it has none."""


class QueryOnly(Session):
    """Runs each query on its own, and gives its connection back at once. It stores nothing, so nothing has to end."""

    def execute(self, *arguments: Any, **options: Any) -> Any:
        """Run a statement."""
        with self._query():
            return super().execute(*arguments, **options)

    def scalar(self, *arguments: Any, **options: Any) -> Any:
        """Run a statement and return the first column of its first row."""
        with self._query():
            return super().scalar(*arguments, **options)

    def scalars(self, *arguments: Any, **options: Any) -> Any:
        """Run a statement and return the first column of its rows."""
        with self._query():
            return super().scalars(*arguments, **options)

    def _query(self) -> AbstractContextManager[object]:
        # Some queries lead to others, as `selectinload` does: they belong to the first.
        return nullcontext() if self.in_transaction() else super().begin()

    def refuse(self, *_arguments: Any, **_options: Any) -> Any:
        """Store nothing.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError(STORES_NOTHING)


STORES_NOTHING = "A ReadSession stores nothing: depend on Session where something is changed or locked."
READING_METHODS = frozenset(
    {"execute", "scalar", "scalars", "query", "get", "get_one", "refresh", "expire", "expire_all", "expunge"}
    | {"expunge_all", "close", "close_all", "reset", "rollback", "invalidate", "in_transaction", "get_transaction"}
    | {"in_nested_transaction", "get_nested_transaction", "get_bind", "bind_mapper", "bind_table"}
    | {"identity_key", "is_modified", "object_session", "info"}
)
"""The methods of a session that only reads. All others are refused, those of later versions included."""
for method in {name for name in dir(Session) if not name.startswith("_") and isroutine(getattr(Session, name))}:
    if method not in READING_METHODS:
        setattr(QueryOnly, method, QueryOnly.refuse)

READS = re.compile(r"[\s(]*(SELECT|WITH|VALUES|TABLE|SHOW)\b", re.IGNORECASE)
WRITES = re.compile(
    r"\bINTO\b|\(\s*(UPDATE\b|DELETE\s+FROM\b)|\bFOR\s+((NO\s+KEY\s+)?UPDATE|(KEY\s+)?SHARE)\b", re.IGNORECASE
)
"""SELECT INTO, a WITH clause that changes rows, or locks that end with the statement."""
QUOTED = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|\$(\w*)\$.*?\$\1\$|--[^\n]*|/\*.*?\*/""", re.DOTALL)


@lru_cache(maxsize=1000)
def only_reads(sql: str) -> bool:
    """Tell whether a statement cannot change anything, unless a function that it calls does."""
    sql = QUOTED.sub(" ", sql)
    return READS.match(sql) is not None and WRITES.search(sql) is None


def _refuse_write(_connection: object, _cursor: object, statement: str, *_others: object) -> None:
    """Refuse each statement that is not known to read, however it got here."""
    if not only_reads(statement):
        raise RuntimeError(STORES_NOTHING)


def _refuse_change(_session: Session, transaction: SessionTransaction) -> None:
    """Refuse to begin a transaction for anything but a query, as a change of an object does."""
    if transaction.origin is SessionTransactionOrigin.AUTOBEGIN:
        transaction.close()
        raise RuntimeError(STORES_NOTHING)


event.listen(QueryOnly, "after_transaction_create", _refuse_change)

ReadSessionLocal = async_sessionmaker(sync_session_class=QueryOnly, autoflush=False, expire_on_commit=False)
"""Makes the sessions of requests that only read. Without BEGIN and COMMIT, a query takes one round trip of three."""

ProbeSessionLocal = async_sessionmaker(sync_session_class=QueryOnly, autoflush=False, expire_on_commit=False)
"""Makes the sessions of the readiness probe. They share one connection apart from the pool, so that a pool that is
exhausted does not take all replicas out of the load balancer at once."""


async def get_db() -> AsyncGenerator[AsyncSession]:
    """Give a request its session: committed when the handler returns, rolled back when anything raises.

    Depend on it through `app.core.deps.Session`, whose scope makes the commit happen before the response is sent.
    """
    session = AsyncSessionLocal()  # Not `async with`, which closes it in a task of its own, for each request.
    try:
        yield session
        await session.commit()
    finally:
        await session.close()


async def get_read_db() -> AsyncSession:
    """Give a request that changes nothing its session. Depend on it through `app.core.deps.ReadSession`."""
    return ReadSessionLocal()


@asynccontextmanager
async def bind_engine(engine: AsyncEngine) -> AsyncGenerator[AsyncEngine]:
    """Let the sessions use `engine` for the duration of the block, then close its connections."""
    makers = AsyncSessionLocal, ReadSessionLocal, ProbeSessionLocal
    before = [maker.kw.get("bind") for maker in makers]
    probe = _with_own_pool(engine)
    AsyncSessionLocal.configure(bind=engine)
    reading = engine.execution_options(isolation_level="AUTOCOMMIT")
    event.listen(reading.sync_engine, "before_cursor_execute", _refuse_write)
    ReadSessionLocal.configure(bind=reading)
    ProbeSessionLocal.configure(bind=probe.execution_options(isolation_level="AUTOCOMMIT"))

    def dispose_probe(_: object) -> None:
        probe.sync_engine.dispose()

    event.listen(engine.sync_engine, "engine_disposed", dispose_probe)
    try:
        yield engine
    finally:
        for maker, bind in zip(makers, before, strict=True):
            maker.configure(bind=bind)
        await engine.dispose()
        event.remove(engine.sync_engine, "engine_disposed", dispose_probe)


def _with_own_pool(engine: AsyncEngine) -> AsyncEngine:
    """Return an engine with the settings and events of `engine`, and a connection pool apart."""
    like = engine.sync_engine
    return AsyncEngine(Engine(like.pool.recreate(), like.dialect, like.url, hide_parameters=like.hide_parameters))


def create_engine(settings: Settings) -> AsyncEngine:
    """Make the engine that `settings` describe. Nothing connects before the first use.

    Source for the PgBouncer options: SQLAlchemy's page on asyncpg, "Prepared Statement Cache" and "Prepared Statement
    Name with PGBouncer".
    """
    connect_args: dict[str, Any] = {
        "async_creator_fn": _connect,
        "timeout": settings.db_connect_timeout,
        # The last resort when the network swallows an answer: the server's own time-out is to come first.
        "command_timeout": settings.db_statement_timeout + settings.db_connect_timeout,
    }
    pool: dict[str, Any]
    if settings.db_behind_pgbouncer:
        # PgBouncer keeps the pool, hands every transaction to another server connection and knows no start-up options.
        pool = {"poolclass": NullPool}
        connect_args |= {
            "statement_cache_size": 0,
            "prepared_statement_cache_size": 0,
            # One that has no name is gone with the next. Others would stay, as nobody closes them where they were made.
            "prepared_statement_name_func": str,
        }
    else:
        pool = {
            "pool_size": settings.db_pool_size,
            "max_overflow": settings.db_max_overflow,
            "pool_timeout": settings.db_pool_timeout,
        }
        connect_args["server_settings"] = {
            "statement_timeout": _milliseconds(settings.db_statement_timeout),
            "lock_timeout": _milliseconds(settings.db_lock_timeout),
            "idle_in_transaction_session_timeout": _milliseconds(settings.db_idle_in_transaction_timeout),
        }
    engine = create_async_engine(settings.database, connect_args=connect_args, hide_parameters=True, **pool)
    hide_values(engine)
    event.listen(engine.sync_engine, "handle_error", _give_up_connection)
    event.listen(engine.sync_engine, "checkout", _refuse_closed_connection)
    return engine


def hide_values(engine: AsyncEngine) -> None:
    """Take the values of rows and parameters out of the engine's errors, which end up in the log.

    `hide_parameters` does that for the list of parameters. PostgreSQL repeats values as well, in the DETAIL of an error
    and in the messages of data exceptions; asyncpg and SQLAlchemy do so for values that they cannot convert.
    """
    event.listen(engine.sync_engine, "handle_error", _hide_values)


def _hide_values(context: ExceptionContext) -> None:
    original = context.original_exception
    is_data = f"{getattr(original, 'sqlstate', None) or DATA_EXCEPTION}".startswith(DATA_EXCEPTION)
    for error in (original, original.__cause__, context.sqlalchemy_exception):
        if error is not context.sqlalchemy_exception and "detail" in getattr(error, "__dict__", {}):
            vars(error)["detail"] = None
        if is_data and error is not None and not isinstance(error, OSError):
            error.args = tuple(
                IN_QUOTES.sub("'***'", ARGUMENT.sub(r"\1", part)) if isinstance(part, str) else part
                for part in error.args
            )
    if is_data:
        (original.__cause__ or original).__cause__ = None  # What the values were like before they were converted.


def _give_up_connection(context: ExceptionContext) -> None:
    """Part with a connection whose server did not answer in time, or that the network broke: nothing is known of it.

    Raises:
        DatabaseUnavailableError: that is what happened.
    """
    error = context.original_exception
    if isinstance(error, OSError):  # Which a TimeoutError is: that of `command_timeout`.
        # Those that nobody uses may be as dead, so the pool is to replace each of them before its next use.
        context.is_disconnect = context.invalidate_pool_on_disconnect = True
        raise DatabaseUnavailableError from error


def _refuse_closed_connection(connection: Any, _record: object, _proxy: object) -> None:
    """Have the pool open another connection instead of one that was closed while nobody used it.

    The driver has heard of it already, so that this asks the server nothing: no request pays for a ping.
    """
    if connection.driver_connection.is_closed():
        raise DisconnectionError


class BriefConnection(asyncpg.Connection):
    """A connection whose end does not take long, even if the network swallows what is said at it."""

    async def close(self, **_options: Any) -> None:
        """Say goodbye to the server, and go without its answer if there is none."""
        with suppress(TimeoutError):
            await super().close(timeout=GOODBYE)


async def _connect(*args: Any, **kwargs: Any) -> asyncpg.Connection:
    """Connect, and give one name to all failures but the server's own, such as bare `OSError`s of the network."""
    try:
        connection = await asyncpg.connect(*args, connection_class=BriefConnection, **kwargs)
        try:
            # A server may let everybody in and answer nobody. SQLAlchemy's own first queries would find that out for
            # one connection after the other, with all requests waiting in line.
            await connection.execute("SELECT 1", timeout=kwargs["timeout"])
        except BaseException:
            connection.terminate()
            raise
    except asyncpg.PostgresError:
        raise
    except Exception as error:
        raise DatabaseUnavailableError from error
    return connection


def _milliseconds(seconds: float) -> str:
    return str(round(seconds * 1000))
