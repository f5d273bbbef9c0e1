"""Is the service alive, and can it do its work?"""

import asyncio
from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from app.core.config import Settings
from app.core.db import ProbeSessionLocal
from app.core.deps import CurrentSettings
from app.core.errors import DatabaseUnavailableError, ServiceError, UnavailableError
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
async def ready(request: Request, settings: CurrentSettings) -> Health:
    """Say whether requests can be served, by asking the database: a load balancer sends them elsewhere if not."""
    if leaving.is_set():
        raise UnavailableError("The service is about to stop.")
    # Probes that come at the same time share one check, so any number of them takes one connection.
    state = request.app.state
    check: asyncio.Task[ServiceError | None] | None = getattr(state, "readiness", None)
    if check is None:
        check = state.readiness = asyncio.create_task(find_obstacle(settings), name="readiness")
        check.add_done_callback(lambda _: delattr(state, "readiness"))
    if obstacle := await asyncio.shield(check):
        raise obstacle
    return Health()


async def find_obstacle(settings: Settings) -> ServiceError | None:
    """Ask the database, for at most READINESS_TIMEOUT seconds, and return why requests cannot be served."""
    try:
        async with asyncio.timeout(settings.readiness_timeout), ProbeSessionLocal() as session:
            behind = await is_behind(session)
    except (DatabaseUnavailableError, DBAPIError, PoolTimeoutError, TimeoutError) as error:
        obstacle = DatabaseUnavailableError()
        obstacle.__cause__ = error.__cause__ if isinstance(error, DatabaseUnavailableError) else error
        return obstacle
    return UnavailableError("The database has yet to be migrated.") if behind else None
