"""Guards the application: requests need an API key, and to write one that may write."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from app.api_keys.deps import key_of, scheme
from app.core.access import ForbiddenError, Guard
from app.core.permissions import READ, WRITE, Caller


class ApiKeys:
    """Programs prove who they are by keys. All of them may read: they have `READ`, and scopes such as `files:read`."""

    schemes = (scheme,)

    async def identify(self, connection: HTTPConnection) -> Caller:
        """Return whose key a request has."""
        key = await key_of(connection.headers.get(scheme.model.name))
        may_write = key.may_write
        return Caller(key.id, key, lambda p: p == READ or p.endswith(":read") or (p == WRITE and may_write))

    def refusal(self, permission: str) -> ForbiddenError:
        """Say what the key may not do."""
        if permission == WRITE:
            return ForbiddenError("This API key is only for reading.")
        return ForbiddenError(f"This API key has no permission {permission}.")


def protect(app: FastAPI) -> Callable[[dict[str, Any]], None]:
    """Guard `app`. Returns what writes into its OpenAPI document which operations need a key."""
    return Guard(app, ApiKeys()).document
