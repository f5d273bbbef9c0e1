"""Is the service alive, and can it do its work?"""

import asyncio
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core.db import ReadSessionLocal
from app.core.deps import CurrentSettings
from app.core.errors import DatabaseUnavailableError, UnavailableError
from app.core.schema import is_behind
from app.core.server import leaving

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
    if leaving.is_set():
        raise UnavailableError("The service is about to stop.")
    try:
        async with asyncio.timeout(settings.readiness_timeout), ReadSessionLocal() as session:
            behind = await is_behind(session)
    except (DBAPIError, PoolTimeoutError, TimeoutError) as error:
        raise DatabaseUnavailableError from error
    if behind:
        raise UnavailableError("The database has yet to be migrated.")
    return Health()
