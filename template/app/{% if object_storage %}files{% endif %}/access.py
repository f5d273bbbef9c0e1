"""Who may do what with a file: its owner, callers with a scope such as `files:read`, and whom a rule allows it.

A feature adds a rule with a module `file_rules.py` that has a function
`async def may(session, caller, action, file) -> bool | None`; the first answer that is not None decides.
"""

from enum import StrEnum
from functools import cache
from http import HTTPStatus
from types import ModuleType

from sqlalchemy.ext.asyncio import AsyncSession

from app.core.discovery import feature_modules
from app.core.errors import NotFoundError, ServiceError
from app.core.permissions import Caller
from app.files.models import File


class Action(StrEnum):
    """What somebody may do with a file, and by which scope: `files:read` for `READ`."""

    READ = "read"
    CHANGE = "change"
    DELETE = "delete"


class FileForbiddenError(ServiceError):
    """Who calls may read the file, but not do this with it."""

    status = HTTPStatus.FORBIDDEN


@cache
def rules() -> tuple[ModuleType, ...]:
    """Return the rules of all features. They are looked for once: that blocks the event loop."""
    return tuple(feature_modules("file_rules"))


async def may(session: AsyncSession, caller: Caller | None, action: Action, file: File) -> bool:
    """Say whether somebody may do something with a file."""
    for module in rules():
        decision: bool | None = await module.may(session, caller, action, file)
        if decision is not None:
            return decision
    if file.owner_id is None:  # Uploaded anonymously, or before files had owners.
        return True
    return caller is not None and (caller.id == file.owner_id or caller.may(f"files:{action}"))


async def require(session: AsyncSession, caller: Caller | None, action: Action, file: File) -> None:
    """Refuse what somebody may not do with a file.

    Raises:
        NotFoundError: they may not even know of it.
        FileForbiddenError: they may only read it.
    """
    if await may(session, caller, action, file):
        return
    if action is Action.READ or not await may(session, caller, Action.READ, file):
        raise NotFoundError("There is no file with this id.")
    raise FileForbiddenError(f"You may not {action} this file: it belongs to somebody else.")
