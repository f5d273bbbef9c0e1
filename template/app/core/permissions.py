"""What the caller of a route needs, declared at the route itself.

The guard of the application reads it, if there is one. Without a declaration it asks for `READ` where a route only
reads, and for `WRITE` otherwise. Without a guard, anybody may call every route.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from starlette.requests import HTTPConnection

READ = "read"
"""What every known caller may do."""
WRITE = "write"
"""What callers may do who change things."""

ATTRIBUTE = "__needs__"
SCOPE_KEY = "app.caller"

T = TypeVar("T")


def needs(*permissions: str) -> Callable[[T], T]:
    """Declare the permissions that a caller needs: `READ`, `WRITE`, a role or a scope such as `"files:read"`.

    It decorates the function of a route or a WebSocket, in any order with the router's decorator, or a dependency. It
    can also be called with the application of a mount: `router.mount("/reports", needs("owner")(reports))`.
    """

    def declare(target: T) -> T:
        try:
            setattr(target, ATTRIBUTE, frozenset(permissions))
        except AttributeError as error:
            raise TypeError(f"Nothing can be declared on {target!r}: wrap it in a function.") from error
        return target

    return declare


def open_to_all(target: T) -> T:
    """Declare that anybody may call it; otherwise like `needs`."""
    return needs()(target)


def declared(target: object) -> frozenset[str] | None:
    """Return what was declared on a function or application, or None."""
    # Not `getattr`, which would also find what was declared on the class of an application.
    found: frozenset[str] | None = getattr(target, "__dict__", {}).get(ATTRIBUTE)
    return found


@dataclass(frozen=True)
class Caller:
    """Who makes a request: `account` is their row, and `may` says whether they have a permission."""

    id: UUID
    account: Any
    may: Callable[[str], bool]


def caller_of(connection: HTTPConnection) -> Caller | None:
    """Return who makes a request, or None where that was not asked."""
    caller: Caller | None = connection.scope.get(SCOPE_KEY)
    return caller
