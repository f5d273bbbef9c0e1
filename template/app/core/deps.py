"""Dependencies that handlers share: annotate a parameter with one of them."""

from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.config import Settings
from app.core.db import get_db, get_read_db


async def get_settings(request: Request) -> Settings:
    """Return the settings that the application was built with."""
    settings: Settings = request.app.state.settings
    return settings


CurrentSettings = Annotated[Settings, Depends(get_settings)]

# With the scope "function" the session commits before the response is sent, so a client never sees success for a
# commit that failed. The default scope, "request", would commit afterwards.
Session = Annotated[AsyncSession, Depends(get_db, scope="function")]

# For a request that only reads. Two of its queries may see different states, as they may in any transaction that is not
# REPEATABLE READ; objects cannot be stored with it.
ReadSession = Annotated[AsyncSession, Depends(get_read_db)]
