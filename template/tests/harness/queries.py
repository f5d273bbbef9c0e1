"""What a request asks the database: counted, limited, and searched for the same query over and over (N+1)."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.harness.text import listed, shortened

_recorders: ContextVar[tuple[list[str], ...]] = ContextVar("recorders", default=())


def record_queries(engine: AsyncEngine) -> None:
    """Make `engine` tell the recorders about its statements."""
    event.listen(engine.sync_engine, "before_cursor_execute", _note)


def _note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    for recorder in _recorders.get():
        recorder.append(statement)


@contextmanager
def recording() -> Generator[list[str]]:
    """Yield a list that fills with the statements that run in the block, and in tasks that it starts."""
    statements: list[str] = []
    token = _recorders.set((*_recorders.get(), statements))
    try:
        yield statements
    finally:
        _recorders.reset(token)


@contextmanager
def query_budget(most: int) -> Generator[list[str]]:
    """Fail if more than `most` statements run in the block."""
    with recording() as statements:
        yield statements
    if len(statements) > most:
        lines = "\n".join(listed([f"  {number}. {sql}" for number, sql in enumerate(statements, 1)]))
        raise AssertionError(f"{len(statements)} queries, and the budget is {most}:\n{lines}")


def refuse_repetition(request: str, statements: list[str], most: int) -> None:
    """Fail if one statement ran more than `most` times: it is likely one query for each row, which is called N+1."""
    statement, times = max(Counter(statements).items(), key=lambda item: item[1], default=("", 0))
    if times > most:
        raise AssertionError(
            f"N+1: {request} ran one query {times} times; if that is right, mark the test with "
            f"@pytest.mark.repeats({times}):\n  {shortened(statement)}"
        )
