"""The harness's part in pytest: options, markers, and when the server comes and goes."""

import gc
import os
from collections.abc import Generator
from typing import Any

import httpx
import pytest

from dev.example_settings import complaint
from tests.harness.advice import add_advice, hints
from tests.harness.databases import template_name
from tests.harness.isolation import fail_for
from tests.harness.leftovers import Watch
from tests.harness.run import (
    EMBEDDED,
    FAILED,
    NAMED,
    REAL_DB_LEFT,
    SERVER,
    begin_to_start_server,
    fixtures_of,
    is_worker,
    start_server,
)
from tests.harness.server import HarnessError, named_server
from tests.harness.settings import forget_environment

MARKERS = (
    "real_db: give the test a database of its own, with a real pool and real commits, instead of the sandbox",
    "request_timeout(seconds): let each request of the test last longer than 60 seconds, or end it earlier",
    "repeats(times): let one request run the same query this often; more than 5 times is taken for N+1 otherwise",
    "ci_critical: what must work for the service to be of any use",
    "performance: measures ratios and counts; not run by default",
    "faults: lets the network, the servers and the process fail; not run by default",
    "slow: takes more than a second",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the harness's option."""
    group = parser.getgroup("database")
    group.addoption("--keep-db", action="store_true", help="set the database of each failing test aside for inspection")


def pytest_configure(config: pytest.Config) -> None:
    """End the run, before anything is collected, if its database is not one that tests may use."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if is_worker(config):
        forget_environment()
        return
    try:
        config.stash[NAMED] = named_server(os.environ)
        forget_environment()
        if getattr(config.option, "numprocesses", None):
            start_server(config)  # The workers share it.
    except HarnessError as error:
        pytest.exit(str(error), returncode=1)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the embedded server."""
    if embedded := config.stash.get(EMBEDDED, None):
        embedded.stop()


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Generator[None]:
    """Red if the test leaves something changed for all others. It is set up after what has a wider scope."""
    hints.clear()
    watch = Watch()
    yield
    fail_for([*watch.left_behind()])


@pytest.fixture
def writer(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client that may change things. A file in `tests/fixtures/` can put another one in its place."""
    return client


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker where the server is."""
    node.workerinput["server"] = node.config.stash[SERVER].render_as_string(hide_password=False)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Begin to start the server as soon as a test needs one: it comes up while the others are collected."""
    if "databases" in fixtures_of(item) and not is_worker(item.config):
        begin_to_start_server(item.config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Wait for the server, if one of the tests that are to run needs it."""
    gc.freeze()  # What is there by now stays: to search it for garbage over and over takes nearly a millisecond a test.
    items, stash = session.items, session.config.stash
    stash[REAL_DB_LEFT] = {item.nodeid for item in items if item.get_closest_marker("real_db")}
    if is_worker(session.config) or SERVER in stash or not any("databases" in fixtures_of(item) for item in items):
        return
    try:
        if wrong := complaint():
            raise HarnessError(f"The application cannot start with these settings:\n{wrong}")
        start_server(session.config)
    except HarnessError as error:
        session.shouldfail = str(error)
        raise session.Failed(session.shouldfail) from None


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """Remember that a test failed, for the fixture that sets its database aside."""
    report = yield
    add_advice(report, " ".join(str(entry.path) for entry in call.excinfo.traceback) if call.excinfo else "")
    if report.failed and report.when == "call":
        item.stash[FAILED] = True
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    """Give the requests of a test the time that its marker says."""
    with pytest.MonkeyPatch.context() as patch:
        if marker := item.get_closest_marker("request_timeout"):
            patch.setattr("tests.harness.client.request_timeout", marker.args[0])
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Say what to do about a file that cannot be imported."""
    report = yield
    hints.clear()
    add_advice(report, str(report.longrepr) if report.failed else "")
    return report


def pytest_report_header(config: pytest.Config) -> str:
    """Say which PostgreSQL is used."""
    named = config.stash.get(NAMED, None)
    return f"database: {named or 'embedded PostgreSQL; TEST_DATABASE_URL names another'}"


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Name what stays on a server that is not ours."""
    if config.stash.get(NAMED, None) and SERVER in config.stash:
        terminalreporter.write_line(f"The template database {template_name()} stays on the server, for the next run.")
