"""Logging: one JSON object a line, each with the id of the request it belongs to."""

import logging
from asyncio import CancelledError
from contextvars import ContextVar
from typing import Any

from app.core.config import Settings

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request being served; None outside of one."""


class RequestIdFilter(logging.Filter):
    """Put the request's id on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record through, with its `request_id`."""
        if not hasattr(record, "request_id"):
            record.request_id = request_id.get()
        return True


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
    return {
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
            "console": {"format": "%(asctime)s %(levelname)-7s %(name)s: %(message)s", "datefmt": "%H:%M:%S"},
        },
        "handlers": {
            "stdout": {
                "class": "logging.StreamHandler",
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
