"""Dependencies that say who calls: annotate a parameter with one of them."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPBearer, OAuth2PasswordBearer
from fastapi.security.utils import get_authorization_scheme_param
from starlette.requests import HTTPConnection

from app.auth import service, tokens
from app.auth.models import Role, User, includes
from app.auth.tokens import Claims, Use
from app.core.access import ForbiddenError, UnauthorizedError
from app.core.db import ReadSessionLocal
from app.core.deps import ReadSession, Session
from app.core.permissions import caller_of, needs

_bearer = OAuth2PasswordBearer(tokenUrl="/api/v1/auth/token", refreshUrl="/api/v1/auth/refresh", auto_error=False)
# The same header, for the OpenAPI document: not everything that reads it can sign in by itself.
_header = HTTPBearer(auto_error=False)
schemes = (_bearer, _header)


async def current_claims(
    token: Annotated[str | None, Depends(_bearer)], _: Annotated[object, Depends(_header)]
) -> Claims:
    """Return what the caller's access token says.

    Raises:
        UnauthorizedError: there is none.
        BadTokenError: it is not valid.
    """
    return _claims(token)


def _claims(token: str | None) -> Claims:
    if token is None:
        raise UnauthorizedError("Sign in first: this needs an access token.", "Bearer")
    return tokens.read(token, Use.ACCESS)


def bearer_token(connection: HTTPConnection) -> str | None:
    """Return the token that a request has in its header `Authorization`."""
    scheme, token = get_authorization_scheme_param(connection.headers.get("Authorization"))
    return token if scheme.lower() == "bearer" else None


async def user_of(token: str | None) -> User:
    """Return whose access token it is, with no session.

    Raises:
        UnauthorizedError: there is none, or it is not valid.
    """
    session = ReadSessionLocal()
    user = await service.authenticate(session, _claims(token))
    session.expunge(user)
    return user


CurrentClaims = Annotated[Claims, Depends(current_claims)]


async def current_user(session: Session, claims: CurrentClaims, connection: HTTPConnection) -> User:
    """Return whose access token it is, as it was when the guard checked the request.

    Raises:
        BadTokenError: the sign-in was ended, or the account deleted.
    """
    if caller := caller_of(connection):
        user: User = await session.merge(caller.account, load=False)
        return user
    return await service.authenticate(session, claims)


CurrentUser = Annotated[User, Depends(current_user)]


async def reader(session: ReadSession, claims: CurrentClaims) -> User:
    """Return whose access token it is. This holds no connection; the handler's session may take one.

    Raises:
        BadTokenError: the sign-in was ended, or the account deleted.
    """
    return await service.authenticate(session, claims)


def at_least(role: Role) -> Callable[[User], Awaitable[User]]:
    """Return a dependency that is the current user, if their role is `role` or one that may do more."""

    @needs(role)
    async def check(user: CurrentUser) -> User:
        if not includes(user.role, role):
            raise ForbiddenError(f"This needs the role {role}.")
        return user

    return check


editor = at_least(Role.EDITOR)
owner = at_least(Role.OWNER)
Owner = Annotated[User, Depends(owner)]
