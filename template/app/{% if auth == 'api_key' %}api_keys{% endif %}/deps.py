"""Dependencies that say who calls: annotate a parameter with one of them."""

from typing import Annotated

from fastapi import Depends
from fastapi.security import APIKeyHeader

from app.api_keys import service
from app.api_keys.models import ApiKey
from app.core.access import ForbiddenError, UnauthorizedError
from app.core.deps import ReadSession, Session

_header = APIKeyHeader(name="X-API-Key", auto_error=False)


GivenKey = Annotated[str | None, Depends(_header)]


async def current_key(session: Session, given: GivenKey) -> ApiKey:
    """Return the key that the caller has shown.

    Raises:
        UnauthorizedError: there is none, or it is not valid.
    """
    if not given:
        raise UnauthorizedError("This needs an API key in the header X-API-Key.", service.CHALLENGE)
    return await service.authenticate(session, given)


CurrentKey = Annotated[ApiKey, Depends(current_key)]


async def reading_key(session: ReadSession, given: GivenKey) -> ApiKey:
    """Return the key that the caller has shown. This holds no connection; the handler's session may take one.

    Raises:
        UnauthorizedError: there is none, or it is not valid.
    """
    return await current_key(session, given)


async def writing_key(key: CurrentKey) -> ApiKey:
    """Return the key that the caller has shown.

    Raises:
        ForbiddenError: it is only for reading.
    """
    if not key.may_write:
        raise ForbiddenError("This API key is only for reading.")
    return key
