"""Dependencies that say who calls: annotate a parameter with one of them."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends
from fastapi.security import HTTPBearer, OAuth2PasswordBearer

from app.auth import service, tokens
from app.auth.models import Role, User
from app.auth.tokens import Claims, Use
from app.core.access import ForbiddenError, UnauthorizedError
from app.core.deps import ReadSession, Session

_bearer = OAuth2PasswordBearer(tokenUrl="/api/v1/auth/token", refreshUrl="/api/v1/auth/refresh", auto_error=False)
# The same header, for the OpenAPI document: not everything that reads it can sign in by itself.
_header = HTTPBearer(auto_error=False)


async def current_claims(
    token: Annotated[str | None, Depends(_bearer)], _: Annotated[object, Depends(_header)]
) -> Claims:
    """Return what the caller's access token says.

    Raises:
        UnauthorizedError: there is none.
        BadTokenError: it is not valid.
    """
    if token is None:
        raise UnauthorizedError("Sign in first: this needs an access token.", "Bearer")
    return tokens.read(token, Use.ACCESS)


CurrentClaims = Annotated[Claims, Depends(current_claims)]


async def current_user(session: Session, claims: CurrentClaims) -> User:
    """Return whose access token it is.

    Raises:
        BadTokenError: the sign-in was ended, or the account deleted.
    """
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
    allowed = [*Role][[*Role].index(role) :]

    async def check(user: CurrentUser) -> User:
        if user.role not in allowed:
            raise ForbiddenError(f"This needs the role {role}.")
        return user

    return check


editor = at_least(Role.EDITOR)
owner = at_least(Role.OWNER)
Owner = Annotated[User, Depends(owner)]
