"""Dependencies that say who calls: annotate a parameter with one of them."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import APIKeyHeader
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import HTTPConnection

from app.api_keys import service
from app.api_keys.models import ApiKey
from app.core.access import ForbiddenError, UnauthorizedError
from app.core.db import ReadSessionLocal
from app.core.deps import ReadSession, Session
from app.core.permissions import WRITE, caller_of, needs

scheme = APIKeyHeader(name="X-API-Key", auto_error=False)


GivenKey = Annotated[str | None, Depends(scheme)]


async def current_key(session: Session, given: GivenKey, connection: HTTPConnection) -> ApiKey:
    """Return the key that the caller has shown, as it was when the guard checked the request.

    Raises:
        UnauthorizedError: there is none, or it is not valid.
    """
    if caller := caller_of(connection):
        key: ApiKey = await session.merge(caller.account, load=False)
        return key
    return await _authenticate(session, given)


async def key_of(given: str | None) -> ApiKey:
    """Return a key, with no session.

    Raises:
        UnauthorizedError: there is none, or it is not valid.
    """
    session = ReadSessionLocal()
    key = await _authenticate(session, given)
    session.expunge(key)
    return key


async def _authenticate(session: AsyncSession, given: str | None) -> ApiKey:
    if not given:
        raise UnauthorizedError("This needs an API key in the header X-API-Key.", service.CHALLENGE)
    return await service.authenticate(session, given)


CurrentKey = Annotated[ApiKey, Depends(current_key)]


async def reading_key(session: ReadSession, given: GivenKey) -> ApiKey:
    """Return the key that the caller has shown. This holds no connection; the handler's session may take one.

    Raises:
        UnauthorizedError: there is none, or it is not valid.
    """
    return await _authenticate(session, given)


@needs(WRITE)
async def writing_key(key: CurrentKey) -> ApiKey:
    """Return the key that the caller has shown.

    Raises:
        ForbiddenError: it is only for reading.
    """
    if not key.may_write:
        raise ForbiddenError("This API key is only for reading.")
    return key
