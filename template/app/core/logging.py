"""Logging: one JSON object a line, each with the id of the request it belongs to."""

import json
import logging
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


class JsonFormatter(logging.Formatter):
    """Make a JSON object of a record: what is always there, what was given as `extra=`, and the traceback if any."""

    always = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "request_id"}
    encoder = json.JSONEncoder(ensure_ascii=False, default=str)

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        fields = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "request_id": getattr(record, "request_id", None),
        }
        attributes = vars(record)
        fields |= {name: attributes[name] for name in attributes.keys() - self.always}
        if record.exc_info:
            fields["exc_info"] = self.formatException(record.exc_info)
        return self.encoder.encode(fields)


def logging_config(settings: Settings) -> dict[str, Any]:
    """Return the configuration of the whole process, for `logging.config.dictConfig`.

    Libraries and the service's own code log the usual way, with `logging.getLogger(__name__)`; what is given as
    `extra=` becomes fields of the JSON object.
    """
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request_id": {"()": RequestIdFilter}},
        "formatters": {
            "json": {"()": JsonFormatter},
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
        "loggers": {"watchfiles": {"level": "WARNING"}},  # It reports each file that Python compiles.
    }
