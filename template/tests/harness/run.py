"""What is known of this test run: its server, which tests failed, and what is still to come."""

import asyncio
import hashlib
import os

import pytest
from sqlalchemy import URL, make_url

from tests.harness.server import EmbeddedServer, check

NAMED = pytest.StashKey[URL | None]()
SERVER = pytest.StashKey[URL]()
EMBEDDED = pytest.StashKey[EmbeddedServer]()
FAILED = pytest.StashKey[bool]()
REAL_DB_LEFT = pytest.StashKey[set[str]]()


def fixtures_of(item: pytest.Item) -> list[str]:
    """Return the names of the fixtures that a test uses, directly or not."""
    return getattr(item, "fixturenames", [])


def is_to_be_kept(request: pytest.FixtureRequest) -> bool:
    """Say whether the test that is ending has failed, and its database is wanted for inspection."""
    return bool(request.config.option.keep_db and request.node.stash.get(FAILED, False))


def is_worker(config: pytest.Config) -> bool:
    """Say whether this process is one of several that share the tests."""
    return hasattr(config, "workerinput")


def server_of(config: pytest.Config) -> URL:
    """Return the server of this run."""
    if is_worker(config):
        return make_url(config.workerinput["server"])  # type: ignore[attr-defined]
    return config.stash[SERVER]


def run_and_worker() -> tuple[str, str]:
    """Return short names for this test run and for this process of it."""
    unique = os.environ.get("PYTEST_XDIST_TESTRUNUID") or f"{os.getpid()} {os.times().elapsed}"
    return hashlib.sha256(unique.encode()).hexdigest()[:8], os.environ.get("PYTEST_XDIST_WORKER", "main")


def begin_to_start_server(config: pytest.Config) -> None:
    """Start the embedded server, unless one is named or it was started before, without waiting for it."""
    if config.stash[NAMED] is None and EMBEDDED not in config.stash:
        config.stash[EMBEDDED] = EmbeddedServer()


def start_server(config: pytest.Config) -> None:
    """Wait for the embedded server, or try the named one.

    Raises:
        HarnessError: there is none, or it is of no use.
    """
    named = config.stash[NAMED]
    if named is None:
        begin_to_start_server(config)
        config.stash[SERVER] = config.stash[EMBEDDED].url()
    else:
        asyncio.run(check(named))
        config.stash[SERVER] = named
