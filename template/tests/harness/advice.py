"""What to do about failures whose own message does not say it."""

import pytest
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.harness.text import listed

UNKNOWN = {"42P01", "42703", "42704"}
"""The SQLSTATEs of a table, a column or a type that does not exist."""

hints: dict[str, None] = {}
"""The advice of this test, which is shown if it fails."""


def give_advice(engine: AsyncEngine) -> None:
    """Notice errors of `engine` that a migration would help against."""
    event.listen(engine.sync_engine, "handle_error", _note)


def _note(context: ExceptionContext) -> None:
    error = context.original_exception
    if getattr(error, "sqlstate", None) in UNKNOWN:
        reason = str(error).partition(": ")[2] or str(error)
        hints[f'{reason}: no migration makes it; if a model has it, make migration m="what changed" writes one'] = None


def add_advice(report: pytest.TestReport | pytest.CollectReport, trace: str) -> None:
    """Add the advice to a failed test, or a file that cannot be collected. `trace` names files of its traceback."""
    if "testclient.py" in trace:
        hints["TestClient runs a separate event loop: use the fixture `client`, as in await client.get(...)"] = None
    if report.failed and hints:
        report.sections.append(("advice", "\n".join(listed([*hints]))))
