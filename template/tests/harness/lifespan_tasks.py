"""Asyncio tasks of the application's lifespan, which are no test's: those that it starts, and those that they start."""

import asyncio
import sys
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakSet

LIFESPAN = "lifespan"
"""The name of the task that opens and closes it."""

_of_lifespan: ContextVar[bool] = ContextVar("of_lifespan", default=False)
"""Inherited by every task that is started where it is set."""

_remembered: WeakSet[asyncio.Task[Any]] = WeakSet()
"""The tasks of the lifespan, where a task does not tell its context: before Python 3.12."""


def belongs_to_lifespan(task: asyncio.Task[Any] | None) -> bool:
    """Say whether a task was started by the application's lifespan, by itself or through others."""
    if task is None:
        return False
    if sys.version_info >= (3, 12):
        return task.get_context().get(_of_lifespan, False)
    return task in _remembered


@contextmanager
def lifespan_tasks() -> Generator[None]:
    """Make the tasks that are started in the block belong to the lifespan."""
    token = _of_lifespan.set(True)
    loop = asyncio.get_running_loop()
    factory = loop.get_task_factory()
    if sys.version_info < (3, 12):
        loop.set_task_factory(_remember)
    try:
        yield
    finally:
        loop.set_task_factory(factory)
        _of_lifespan.reset(token)


def _remember(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    task = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    if _of_lifespan.get() if context is None else context.get(_of_lifespan, False):
        _remembered.add(task)
    return task
