"""Keyset pagination: a page begins after the row its cursor names, so pages neither repeat nor skip rows.

Source: https://use-the-index-luke.com/no-offset
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Select, bindparam, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import InvalidInputError
from app.core.models import Entity

CURSOR = re.compile(r"A[A-Za-z0-9_-]{31}")
"""Whatever has this form names a position: 24 bytes in base64 for URLs, of which the first six bits are zero."""
BEGINNING = datetime.min.replace(tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
_ORDERED: WeakKeyDictionary[Select[Any], Select[Any]] = WeakKeyDictionary()

EntityT = TypeVar("EntityT", bound=Entity)
ItemT = TypeVar("ItemT")


class PageRequest(BaseModel):
    """The query parameters that ask for a page."""

    limit: int = Field(20, ge=1, le=100, description="How many items at the most.")
    cursor: str | None = Field(
        None,
        max_length=100,
        description="The `next_cursor` of the page before.",
        json_schema_extra={"pattern": f"^{CURSOR.pattern}$"},
    )


PageQuery = Annotated[PageRequest, Query()]


class Page(BaseModel, Generic[ItemT]):
    """Some of the items, newest first, and the cursor of those that follow."""

    model_config = ConfigDict(from_attributes=True)

    items: list[ItemT]
    next_cursor: str | None = Field(description="Absent on the last page.")


@dataclass(frozen=True)
class Rows(Generic[EntityT]):
    """The rows of a page, as a service returns them."""

    items: Sequence[EntityT]
    next_cursor: str | None


async def paginate(
    session: AsyncSession, model: type[EntityT], statement: Select[EntityT], page: PageRequest
) -> Rows[EntityT]:
    """Return the rows of `statement`, a selection of `model`, that `page` asks for, newest first.

    Raises:
        InvalidInputError: the cursor did not come from here.
    """
    statement = _newest_first(statement, model)
    if page.cursor is not None:
        position = tuple_(model.created_at, model.id)
        statement = statement.where(position < tuple_(*decode_cursor(page.cursor)))
    rows = (await session.scalars(statement, {"most": page.limit + 1})).all()
    more = len(rows) > page.limit
    items = rows[: page.limit]
    return Rows(items, encode_cursor(items[-1].created_at, items[-1].id) if more else None)


def _newest_first(statement: Select[EntityT], model: type[EntityT]) -> Select[EntityT]:
    # Kept as long as the statement is: to put it together takes 50 us, and many lists have a constant one.
    ordered = _ORDERED.get(statement)
    if ordered is None:
        ordered = statement.order_by(model.created_at.desc(), model.id.desc()).limit(bindparam("most"))
        _ORDERED[statement] = ordered
    return ordered


def encode_cursor(created_at: datetime, row_id: UUID) -> str:
    """Name a position in a list, in a form that fits into a URL and discourages building one by hand."""
    microseconds = (created_at - BEGINNING) // MICROSECOND
    return base64.urlsafe_b64encode(microseconds.to_bytes(8) + row_id.bytes).decode()


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Return the position that `encode_cursor` named.

    Raises:
        InvalidInputError: it is not a cursor.
    """
    if CURSOR.fullmatch(cursor) is None:
        raise InvalidInputError("The cursor is not one that this list gave out.")
    position = base64.urlsafe_b64decode(cursor)
    # The 58 bits for microseconds reach to the year 9133, which both Python and PostgreSQL can name.
    return BEGINNING + int.from_bytes(position[:8]) * MICROSECOND, UUID(bytes=position[8:])
