"""A small service that keeps a ledger, behind a real socket, and in front of a database that fails."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from fastapi import APIRouter
from sqlalchemy import URL, Column, Integer, MetaData, Table, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.config import Settings
from app.core.deps import ReadSession, Session
from app.main import create_app
from tests.harness.client import opened, running
from tests.harness.live import serving

entries = Table("ledger", MetaData(), Column("number", Integer, primary_key=True))
router = APIRouter(prefix="/ledger", include_in_schema=False)

TIME_OUTS: dict[str, Any] = {
    "db_pool_timeout": 1.0,
    "db_connect_timeout": 1.0,
    "db_statement_timeout": 0.5,
    "db_lock_timeout": 0.5,
    "readiness_timeout": 1.0,
}
STATEMENT_BOUND = TIME_OUTS["db_statement_timeout"] + TIME_OUTS["db_connect_timeout"]
"""After so many seconds the driver gives up a statement."""
BOUND = TIME_OUTS["db_pool_timeout"] + TIME_OUTS["db_connect_timeout"] + STATEMENT_BOUND
"""After so many seconds every request has its answer, whatever the database does."""


@router.post("/{number}", status_code=201)
async def enter(session: Session, number: int) -> int:
    """Enter a number."""
    await session.execute(insert(entries).values(number=number))
    return number


@router.get("/{number}")
async def look_up(session: ReadSession, number: int) -> bool:
    """Say whether a number was entered."""
    return await session.scalar(select(entries.c.number).where(entries.c.number == number)) is not None


@dataclass(frozen=True)
class Ledger:
    """The service as its clients see it, and what is really in its database."""

    client: httpx.AsyncClient
    engine: AsyncEngine
    """Leads to the database itself."""

    async def enter(self, number: int) -> httpx.Response:
        """Ask the service to enter a number. Takes no longer than it may."""
        return await self.client.post(f"/ledger/{number}")

    async def numbers(self) -> set[int]:
        """Return what is in the database."""
        async with self.engine.connect() as connection:
            return {*await connection.scalars(select(entries.c.number))}

    async def recovers(self, number: int) -> bool:
        """Say whether the service enters a number again within two seconds, with nobody's help."""
        async with asyncio.timeout(2):
            while (await self.enter(number)).status_code != 201:
                pass
        return True


@asynccontextmanager
async def keeping_ledger(url: URL, engine: AsyncEngine, **settings: Any) -> AsyncGenerator[Ledger]:
    """Serve a ledger whose database is at `url`; `engine` leads to the same one, past whatever is in between."""
    async with engine.begin() as connection:
        await connection.run_sync(entries.metadata.create_all)
    address = url.render_as_string(hide_password=False)
    app = create_app(Settings(environment="test", database_url=address, **(TIME_OUTS | settings)))
    app.include_router(opened(router))
    # A second more than it may take, for the machine.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=50)
    async with (
        running(app),
        serving(app) as there,
        httpx.AsyncClient(base_url=there, trust_env=False, limits=limits, timeout=BOUND + 1) as client,
    ):
        yield Ledger(client, engine)
