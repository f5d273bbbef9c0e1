"""The fixtures of the fault tests: a service whose database fails when a test wants it to."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.faults.ledger import Ledger, keeping_ledger
from tests.faults.proxy import Proxy, proxy_to
from tests.harness.isolation import Isolation


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all that is here: it takes its time, so it runs only when it is asked for."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.faults)
            item.add_marker(pytest.mark.slow)


@pytest.fixture
async def proxy(isolation: Isolation) -> AsyncGenerator[Proxy]:
    """A proxy in front of the server."""
    async with proxy_to(isolation.databases.server) as proxy:
        yield proxy


@pytest.fixture
async def ledger(proxy: Proxy, isolation: Isolation, test_engine: AsyncEngine) -> AsyncGenerator[Ledger]:
    """A ledger whose database, one of the test's own, is behind the proxy."""
    async with keeping_ledger(proxy.url(isolation.database), test_engine) as ledger:
        yield ledger
