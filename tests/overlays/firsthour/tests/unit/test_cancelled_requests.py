"""A request that uvicorn cancels at the end of SHUTDOWN_TIMEOUT costs one line of the log."""

import logging
from asyncio import CancelledError
from logging.config import DictConfigurator

import pytest

from app.core.config import Settings
from app.core.logging import logging_config

URL = "postgresql+asyncpg://app:a-long-password@db.internal/app"


@pytest.mark.parametrize(("error", "has_traceback"), [(CancelledError(), False), (ValueError("wrong"), True)])
def test_a_cancelled_request_is_logged_without_traceback(error: BaseException, has_traceback: bool) -> None:
    config = logging_config(Settings(environment="test", database_url=URL))
    configurator = DictConfigurator(config)
    record = logging.LogRecord(
        "uvicorn.error", logging.ERROR, "x", 1, "Exception in ASGI application\n", (), (type(error), error, None)
    )

    for name in config["loggers"]["uvicorn.error"]["filters"]:
        assert configurator.configure_filter(config["filters"][name]).filter(record)

    assert bool(record.exc_info) == has_traceback
    assert ("\n" in record.getMessage()) == has_traceback
