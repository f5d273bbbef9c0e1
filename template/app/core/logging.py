"""Logging: one JSON object a line, each with the id of the request it belongs to."""

import logging
import os
import re
import sys
import threading
import time
import traceback
from asyncio import CancelledError
from collections.abc import Iterable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from copy import copy
from types import TracebackType
from typing import Any, TextIO

from fastapi.exceptions import ValidationException
from pydantic import ValidationError
from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonEncoder, JsonFormatter

from app.core.config import Settings

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request being served; None outside of one."""

MAX_QUEUED = 4 * 1024**2
"""How many characters may wait to be written, in each process. Records beyond that are dropped and counted."""
WRITE_INTERVAL = 0.1
"""For how many seconds records below WARNING are collected, so that the thread that writes wakes up ten times a second
and not once for each record."""
FLUSH_TIMEOUT = 1.0
"""For how many seconds the end of the process waits until the queue is written."""

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

REPEAT_INPUT = (ValidationError, ValidationException)
"""The errors whose messages contain what was to be validated."""
RESERVED = frozenset(RESERVED_ATTRS)
URL_PASSWORD = re.compile(r"(://[^\s/:@\"']*:)[^\s/@]+@")
URL_SECRET = re.compile(r"(?i)([?&][\w-]*(?:signature|credential|token|secret|password|key|sig)=)[^&\s\"'\\]+")
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class RequestIdFilter(logging.Filter):
    """Put the request's id on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, with its `request_id`."""
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
        return True


def describe(error: BaseException) -> str:
    """Return the message of an exception, without the input values that pydantic and FastAPI repeat in theirs."""
    if isinstance(error, REPEAT_INPUT):
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        return "\n  ".join([f"{len(problems)} values are not valid", *problems])
    try:
        return str(error)
    except Exception:  # Its message is code, too.
        return "(its message cannot be made)"


def traceback_lines(error: BaseException, seen: frozenset[int] = frozenset()) -> Iterator[str]:
    """Yield the lines of a traceback as Python prints it, with the messages of `describe`."""
    seen |= {id(error)}
    cause, why = error.__cause__, "The above exception was the direct cause of the following exception:"
    if cause is None and not error.__suppress_context__:
        cause, why = error.__context__, "During handling of the above exception, another exception occurred:"
    if cause is not None and id(cause) not in seen:
        yield from traceback_lines(cause, seen)
        yield from ("", why, "")
    if error.__traceback__ is not None:
        yield "Traceback (most recent call last):"
        yield from "".join(traceback.format_tb(error.__traceback__)).splitlines()
    name = type(error).__qualname__ if type(error).__module__ == "builtins" else _full_name(type(error))
    yield from f"{name}: {describe(error)}".splitlines()
    for note in getattr(error, "__notes__", ()):
        yield from f"{note}".splitlines()
    if isinstance(error, BaseExceptionGroup):
        for number, inner in enumerate(error.exceptions, 1):
            yield f"  ---- {number} of {len(error.exceptions)} ----"
            yield from (f"  | {line}" for line in traceback_lines(inner, seen))


def _without_input(message: str, errors: Iterable[BaseException]) -> str:
    """Return a message in which `describe` has replaced what errors, and those that led to them, say themselves."""
    seen: set[int] = set()
    to_do = [*errors]
    while to_do:
        error = to_do.pop()
        if id(error) not in seen:
            seen.add(id(error))
            to_do += [cause for cause in (error.__cause__, error.__context__) if cause is not None]
            to_do += error.exceptions if isinstance(error, BaseExceptionGroup) else ()
            message = message.replace(str(error), describe(error)) if isinstance(error, REPEAT_INPUT) else message
    return message


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


class SafeFormatter(logging.Formatter):
    """Keeps secrets out of the log: passwords and signatures in URLs, and values that exceptions repeat."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        suspects = (*(record.args if isinstance(record.args, tuple) else ()), *(record.exc_info or ()))
        if errors := [suspect for suspect in suspects if isinstance(suspect, BaseException)]:
            record = copy(record)
            record.exc_text = None  # Another handler's formatter may have left it here.
            if isinstance(record.msg, str):
                record.msg, record.args = _without_input(record.getMessage(), errors), ()
        text = super().format(record)
        if "://" in text:
            text = URL_SECRET.sub(r"\1***", URL_PASSWORD.sub(r"\1***@", text))
        return text

    def formatException(self, ei: ExcInfo) -> str:  # noqa: N802 - logging calls it so
        """Format an exception and those that led to it."""
        return "\n".join(traceback_lines(ei[1])) if ei[1] is not None else ""


class JsonLines(SafeFormatter, JsonFormatter):
    """Makes one JSON object (RFC 8259) of each record, whatever it is given as `extra`. Times are UTC (RFC 3339)."""

    converter = time.gmtime
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._common = [(field, self.rename_fields.get(field, field)) for field in self.parse()]
        self._encode = JsonEncoder(allow_nan=False).encode

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        """Collect the fields. Those given as `extra` do not replace the common ones."""
        given = vars(record)
        for field, name in self._common:
            log_data[name] = given.get(field)
        for name, value in (*message_dict.items(), *given.items()):
            if name not in RESERVED or name in message_dict:
                log_data.setdefault(name, value)

    def jsonify_log_record(self, log_data: dict[str, Any]) -> str:
        """Encode the fields; as text, if one of them has no form in JSON, as NaN and circular structures."""
        try:
            return self._encode(log_data)
        except (TypeError, ValueError, RecursionError):
            return self._encode({f"{name}": _as_text(value) for name, value in log_data.items()})


def _as_text(value: object) -> str | None:
    try:
        return value if value is None or isinstance(value, str) else ascii(value)
    except Exception:
        return f"(a value of {type(value).__name__} that cannot be shown)"


class ConsoleLines(SafeFormatter):
    """Makes lines for people. Only the first line of a record begins at the margin, and none controls the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        text = CONTROL_CHARACTER.sub(lambda found: f"\\x{ord(found[0]):02x}", super().format(record))
        return text.replace("\n", "\n    ")


class BackgroundHandler(logging.Handler):
    """Writes records on a thread, so that an output that blocks, as a full pipe does, stops no request.

    At most `MAX_QUEUED` characters wait; what comes on top of that is dropped and counted, and a line says how many
    records that were when writing works again. An output that is closed costs one line on stderr, not one a record.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        """Write to `stream`, in a process without one to stderr."""
        super().__init__()
        self._stream = stream or sys.stderr
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._queued = 0
        """How many characters wait or are being written."""
        self._dropped = 0
        self._is_urgent = self._is_closed = self._is_broken = False
        self._process = os.getpid()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record."""
        try:
            line = f"{self.format(record)}\n"
        except Exception as error:  # Whatever is wrong with a record, it is no reason to fail.
            where = f"{record.pathname}:{record.lineno}"
            line = self._notice("a record from %s cannot be formatted: %s", where, type(error).__name__)
        if not self._has_thread():
            with suppress(OSError, ValueError):
                self._write(line)
            return
        with self._changed:
            if self._is_closed or self._queued + len(line) > MAX_QUEUED:
                self._dropped += 1
                return
            self._lines.append(line)
            self._queued += len(line)
            is_urgent = record.levelno >= logging.WARNING or self._queued > MAX_QUEUED // 8
            if is_urgent or len(self._lines) == 1:
                self._is_urgent |= is_urgent
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all records are written, for at most `FLUSH_TIMEOUT` seconds."""
        if self._thread is None or os.getpid() != self._process:
            return
        with self._changed:
            self._is_urgent = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._queued, FLUSH_TIMEOUT)

    def close(self) -> None:
        """End the thread, as soon as it has written what is queued."""
        if os.getpid() == self._process:
            with self._changed:
                self._is_closed = True
                self._changed.notify_all()
        super().close()

    def _has_thread(self) -> bool:
        """Start the thread, if it does not run yet. Returns False where there cannot be one."""
        if os.getpid() != self._process:  # A fork has no threads, and may end at any moment.
            return False
        if self._thread is None:
            thread = threading.Thread(target=self._write_lines, name="logging", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # There are too many, or the interpreter is about to end.
                return False
            self._thread = thread
        return True

    def _has_work(self) -> bool:
        return bool(self._lines or (self._dropped and not self._is_broken))

    def _write_lines(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._has_work() or self._is_closed)
                if not self._has_work():
                    return
                self._changed.wait_for(lambda: self._is_urgent or self._is_closed, WRITE_INTERVAL)
                lines = self._lines.copy()
                self._lines.clear()
                dropped, self._is_urgent = self._dropped, False
            text = "".join(lines)
            if dropped:
                text += self._notice("%d records were dropped: the log's output did not take them", dropped)
            is_lost = not self._try_to_write(text)
            with self._changed:
                self._queued -= sum(map(len, lines))
                self._dropped += len(lines) if is_lost else -dropped
                self._changed.notify_all()

    def _try_to_write(self, text: str) -> bool:
        """Write, and say whether that worked. The first of several failures is told on stderr."""
        try:
            self._write(text)
        except (OSError, ValueError) as error:
            if not self._is_broken and self._stream is not sys.stderr:
                with suppress(OSError, ValueError, AttributeError):
                    os.write(sys.stderr.fileno(), f"The log cannot be written: {error}\n".encode())
            self._is_broken = True
        else:
            self._is_broken = False
        return not self._is_broken

    def _write(self, text: str) -> None:
        """Write past the stream's buffer, whose lock a blocked thread would keep from all that print to it.

        Raises:
            OSError: the output is closed, or takes nothing.
            ValueError: the stream is closed.
        """
        try:
            descriptor = self._stream.fileno()
        except (AttributeError, OSError):  # A stream of a test, or none at all.
            if self._stream is not None:
                self._stream.write(text)
                self._stream.flush()
            return
        data = memoryview(text.encode(getattr(self._stream, "encoding", None) or "utf-8", "backslashreplace"))
        while data:
            try:
                data = data[os.write(descriptor, data) :]
            except BlockingIOError:  # Somebody has made it non-blocking, which concerns all who share it.
                time.sleep(WRITE_INTERVAL)

    def _notice(self, message: str, *arguments: object) -> str:
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, arguments, None)
        record.request_id = request_id.get()
        return f"{self.format(record)}\n"


class CancelledRequestFilter(logging.Filter):
    """Log a request that uvicorn has cancelled, as it does when SHUTDOWN_TIMEOUT is over, without its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, in one line if it is about a cancellation."""
        if record.exc_info and isinstance(record.exc_info[1], CancelledError):
            record.msg, record.args, record.exc_info = "A request was cancelled", (), None
        return True


def logging_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration of the whole process, for `logging.config.dictConfig`.

    Libraries and the service's own code log the usual way, with `logging.getLogger(__name__)`; what is given as
    `extra=` becomes fields of the JSON object.
    """
    config: dict[str, Any] = {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": RequestIdFilter}, "cancelled": {"()": CancelledRequestFilter}},
        "formatters": {
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "fmt": "{asctime}{levelname}{name}{message}{request_id}",
                "style": "{",
                "rename_fields": {"asctime": "time", "levelname": "level", "name": "logger"},
                "timestamp": False,
            },
            "console": {
                "()": ConsoleLines,
                "format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s",
                "datefmt": "%H:%M:%S",
            },
        },
        "handlers": {
            "stdout": {
                "()": BackgroundHandler,
                "stream": "ext://sys.stdout",
                "formatter": settings.log_format,
                "filters": ["request_id"],
            }
        },
        "root": {"level": settings.log_level, "handlers": ["stdout"]},
        "loggers": {
            "uvicorn.error": {"filters": ["cancelled"]},
            "watchfiles": {"level": "WARNING"},  # It reports each file that Python compiles.
            "alembic.runtime.plugins": {"level": "WARNING"},  # It reports each of its parts, in each process.
        },
    }
    # Not above: an update could not merge it with fields that a project has added there.
    config["formatters"]["json"]["()"] = JsonLines
    return config
