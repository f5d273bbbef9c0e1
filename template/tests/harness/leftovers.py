"""What a test can leave behind in the process that all tests share: compared before and after each, in about 0.1 ms."""

import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from fastapi import FastAPI
from pydantic import SecretStr, ValidationError

from app.core.config import load
from app.core.db import AsyncSessionLocal, ReadSessionLocal
from app.core.discovery import sections

applications: list[FastAPI] = []
"""The applications that are running."""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
KEPT = re.compile(r".*_\d+|AnyIO worker thread.*")
"""The names of threads that executors keep for later work."""
CODE = (FunctionType, BuiltinFunctionType, type, ModuleType)
LATE = 60.0
"""By how many seconds two clocks may differ, as machines set theirs."""

Values = dict[Any, Any]

_modules: dict[str, Values] = {}
"""The variables of each module of the application, as they were when they were last looked at."""
_names: tuple[int, list[str]] = (0, [])


def environment() -> Values:
    """Return the environment: its bytes, where it has them, because to decode them takes longer than all the rest."""
    return dict(getattr(os.environ, "_data", os.environ))


def loggers() -> Values:
    """Return what loggers do."""
    root = logging.root
    own = [handler for handler in root.handlers if not type(handler).__module__.startswith("_pytest")]
    found: Values = {"root": (root.level, root.manager.disable, own)}
    for name, logger in root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger):
            found[name] = (logger.level, logger.disabled, logger.propagate, len(logger.handlers))
    return found


def process() -> Values:
    """Return what a process has once."""
    found: Values = {f"the handler of {each.name}": signal.getsignal(each) for each in SIGNALS}
    found["the default time-out of sockets"] = socket.getdefaulttimeout()
    found["the options of AsyncSessionLocal"] = AsyncSessionLocal.kw.copy()
    found["the options of ReadSessionLocal"] = ReadSessionLocal.kw.copy()
    with suppress(FileNotFoundError):
        found["the working directory"] = os.getcwd()  # noqa: PTH109 - takes a tenth of the time
    for app in applications:
        found["the routes of app"] = [*app.routes]
        found["the middleware of app"] = [*app.user_middleware]
    return found


def of_app(attribute: Callable[[FastAPI], Values]) -> Callable[[], Values]:
    """Return a function that copies a dictionary of the application that was started last."""
    return lambda: attribute(applications[-1]).copy() if applications else {}


KINDS: dict[str, Callable[[], Values]] = {
    "the environment variable ": environment,
    "the logger ": loggers,
    "": process,
    "app.dependency_overrides of ": of_app(lambda app: app.dependency_overrides),
    "app.exception_handlers of ": of_app(lambda app: app.exception_handlers),
    "app.state.": of_app(lambda app: vars(app.state)["_state"]),
}


class Watch:
    """Remembers how things are, and compares them later."""

    def __init__(self) -> None:
        self._values = [look() for look in KINDS.values()]
        self._threads = {*threading.enumerate()}
        self._loaded = load.cache_info().misses
        self._clock = time.time() - os.times().elapsed
        for name in app_modules():
            if not _equal(vars(sys.modules[name]), _modules.get(name)):
                _modules[name] = vars(sys.modules[name]).copy()

    def left_behind(self) -> Iterator[str]:
        """Yield what has changed since, and put back what can be."""
        for (kind, look), before in zip(KINDS.items(), self._values, strict=True):
            after = look()
            if before != after:
                yield from _changes(kind, before, after)
        for name in app_modules():
            before, after = _modules.get(name, {}), vars(sys.modules[name])
            if not _equal(before, after):
                for attribute in _replaced(before, after):
                    yield f"{name}.{attribute} was left replaced: use monkeypatch"
                    setattr(sys.modules[name], attribute, before[attribute])
        if load.cache_info().misses != self._loaded:
            for section in _stale():
                yield f"load({section}) keeps what this test had set: call load.cache_clear() when that is undone"
                load.cache_clear()
        if abs(time.time() - os.times().elapsed - self._clock) > LATE:
            yield "the clock was left in another time: travel in a `with` block"
        for thread in {*threading.enumerate()} - self._threads:
            if thread.is_alive() and not thread.daemon and not KEPT.fullmatch(thread.name):
                yield f"a thread was left running: {thread.name}"


def app_modules() -> list[str]:
    """Return the names of the application's modules. To look for them takes long, so it is done when there are more."""
    global _names
    if _names[0] != len(sys.modules):
        _names = len(sys.modules), [name for name in sys.modules if name.startswith("app.")]
    return _names[1]


def _equal(old: object, new: object) -> bool:
    try:
        return (old == new) is True
    except Exception:  # Some objects, as those of SQL, cannot be compared.
        return False


def _replaced(old: Values, new: Values) -> list[str]:
    """Return the functions and classes of a module that are others now. Its variables may change: they are state."""
    return [name for name, value in old.items() if isinstance(value, CODE) and new.get(name, value) is not value]


def _changes(kind: str, before: Values, after: Values) -> Iterator[str]:
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        name = os.fsdecode(key) if isinstance(key, bytes) else getattr(key, "__qualname__", key)
        # Modules make their loggers when they are imported, and pytest has a variable.
        is_expected = name == "PYTEST_CURRENT_TEST" or (kind == "the logger " and key not in before)
        if not is_expected and not _equal(old, new):
            _put_back(kind, key, name, old)
            yield f"{kind}{name} was left {'behind' if key not in before else 'changed'}"


def _put_back(kind: str, key: Any, name: str, old: Any) -> None:
    """Have the next test find what this one has found, where that is simple."""
    if kind == "the environment variable ":
        os.environ.pop(name, None)
        if old is not None:
            os.environ[name] = os.fsdecode(old)
    elif name == "the working directory":
        os.chdir(old)
    elif kind.startswith("app."):
        app = applications[-1]
        targets = (app.dependency_overrides, app.exception_handlers, vars(app.state)["_state"])
        target: Values = targets[["app.d", "app.e", "app.s"].index(kind[:5])]
        target.pop(key, None)
        if old is not None:
            target[key] = old


def _stale() -> Iterator[str]:
    """Yield the features' settings that `load` keeps, and that the environment does not have."""
    for section in sections():
        with suppress(ValidationError):
            kept, current = load(section).model_dump(), section().model_dump()
            if any(kept[name] != current[name] for name in kept if not isinstance(kept[name], SecretStr)):
                yield section.__name__
