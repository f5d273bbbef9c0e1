"""Guards the application: requests need an access token, and the role or the scope that their route declares."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from app.auth.deps import bearer_token, schemes, user_of
from app.auth.models import Role, includes
from app.core.access import ForbiddenError, Guard
from app.core.permissions import READ, WRITE, Caller

ROLES = {READ: Role.READER, WRITE: Role.EDITOR}
"""The roles that the general permissions stand for."""


class AccessTokens:
    """Accounts prove who they are by access tokens."""

    schemes = schemes

    async def identify(self, connection: HTTPConnection) -> Caller:
        """Return whose access token a request has."""
        user = await user_of(bearer_token(connection))
        return Caller(user.id, user, lambda permission: includes(user.role, ROLES.get(permission, permission)))

    def refusal(self, permission: str) -> ForbiddenError:
        """Say which role is needed."""
        return ForbiddenError(f"This needs the role {ROLES.get(permission, permission)}.")


def protect(app: FastAPI) -> Callable[[dict[str, Any]], None]:
    """Guard `app`. Returns what writes into its OpenAPI document which operations need a token."""
    return Guard(app, AccessTokens()).document
