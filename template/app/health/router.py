"""Is the service alive, and can it do its work?"""

import asyncio
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core.db import AsyncSessionLocal
from app.core.deps import CurrentSettings
from app.core.errors import DatabaseUnavailableError

router = APIRouter(prefix="/health", tags=["health"])


class Health(BaseModel):
    """The answer when all is well."""

    status: Literal["ok"] = "ok"


@router.get("")
async def health() -> Health:
    """Say that the process is up. Touches nothing else: an orchestrator restarts the service when this fails."""
    return Health()


@router.get("/ready")
async def ready(settings: CurrentSettings) -> Health:
    """Say whether requests can be served, by asking the database: a load balancer sends them elsewhere if not."""
    try:
        async with asyncio.timeout(settings.readiness_timeout), AsyncSessionLocal() as session:
            await session.execute(text("SELECT 1"))
    except (DBAPIError, PoolTimeoutError, TimeoutError) as error:
        raise DatabaseUnavailableError from error
    return Health()
