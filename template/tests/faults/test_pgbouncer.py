"""Behind PgBouncer in transaction mode, where each transaction may run on another of the server's connections."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from dev.ports import free_port
from dev.postgres import Account
from tests.faults.ledger import Ledger, keeping_ledger
from tests.harness.isolation import Isolation
from tests.harness.server import connect_arguments

pytestmark = pytest.mark.real_db

PGBOUNCER = shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin") or shutil.which("pgbouncer")
POOL_SIZE = 3


def configuration(server: URL, port: int) -> str:
    """Return what makes PgBouncer listen at `port` and lead to the databases of `server`."""
    there = {"port": 5432} | connect_arguments(server)
    words = " ".join(f"{name}='{there[name]}'" for name in ("host", "port", "user", "password") if there.get(name))
    return (
        f"[databases]\n* = {words}\n\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {POOL_SIZE}\n"
    )


@pytest.fixture
async def pgbouncer(isolation: Isolation) -> AsyncGenerator[URL]:
    """The server, behind a PgBouncer of the test's own."""
    if PGBOUNCER is None:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    port, account = free_port(), Account.for_server()
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as name:
        folder = Path(name)
        (folder / "pgbouncer.ini").write_text(configuration(isolation.databases.server, port))
        identity: dict[str, Any] = {}
        if account.ids:  # PgBouncer, like PostgreSQL, refuses to run as root.
            identity = {"user": account.ids[0], "group": account.ids[1], "extra_groups": []}
            folder.chmod(0o755)
        process = await asyncio.create_subprocess_exec(
            PGBOUNCER,
            folder / "pgbouncer.ini",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            **identity,
        )
        try:
            url = isolation.databases.server.set(host="127.0.0.1", port=port, query={}, database=isolation.database)
            await wait_for(url)
            yield url
        finally:
            process.terminate()
            await process.wait()


async def wait_for(url: URL) -> None:
    """Wait until PgBouncer answers."""
    async with asyncio.timeout(30):
        while True:
            try:
                connection = await asyncpg.connect(**connect_arguments(url), database=url.database)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                await connection.close()
                return


async def work(ledger: Ledger, first: int) -> set[int]:
    """Write and read at once, many times. Returns the statuses."""
    numbers = range(first, first + 10)
    written = await asyncio.gather(*map(ledger.enter, numbers))
    read = await asyncio.gather(*(ledger.client.get(f"/ledger/{number}") for number in numbers))
    assert [response.text for response in read if response.status_code == 200] == ["true"] * 10
    return {response.status_code for response in (*written, *read)}


async def statements_left(url: URL) -> int:
    """Return how many prepared statements there are on a connection of the server."""
    connection = await asyncpg.connect(**connect_arguments(url), database=url.database, statement_cache_size=0)
    found: int = await connection.fetchval("SELECT count(*) FROM pg_prepared_statements, pg_sleep(0.5)")
    await connection.close()
    return found


async def test_the_setting_is_all_it_takes(pgbouncer: URL, test_engine: AsyncEngine) -> None:
    async with keeping_ledger(pgbouncer, test_engine, db_behind_pgbouncer=True) as ledger:
        statuses = await asyncio.gather(*(work(ledger, first * 10) for first in range(5)))
        ready = await ledger.client.get("/health/ready")

        assert set.union(*statuses) == {200, 201}
        assert ready.status_code == 200
        assert len(await ledger.numbers()) == 50
    # Each of these is on a connection of its own, because they take their time.
    assert await asyncio.gather(*(statements_left(pgbouncer) for _ in range(POOL_SIZE))) == [0] * POOL_SIZE


async def test_without_the_setting_it_does_not_work(pgbouncer: URL, test_engine: AsyncEngine) -> None:
    """That is why there is the setting: when this is red, it may not be needed any more."""
    async with keeping_ledger(pgbouncer, test_engine) as ledger:
        assert (await ledger.enter(1)).status_code >= 500
