"""Keyset pagination: a page begins after the row its cursor names, so pages neither repeat nor skip rows.

Source: https://use-the-index-luke.com/no-offset
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Generic, TypeVar
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Select, bindparam, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import InvalidInputError
from app.core.models import Entity

EntityT = TypeVar("EntityT", bound=Entity)
ItemT = TypeVar("ItemT")


class PageRequest(BaseModel):
    """The query parameters that ask for a page."""

    limit: int = Field(20, ge=1, le=100, description="How many items at the most.")
    cursor: str | None = Field(None, max_length=100, description="The `next_cursor` of the page before.")


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


@lru_cache(maxsize=100)
def _newest_first(statement: Select[EntityT], model: type[EntityT]) -> Select[EntityT]:
    # Kept, because to put a statement together takes as long as to run it, and most lists have the same each time.
    return statement.order_by(model.created_at.desc(), model.id.desc()).limit(bindparam("most"))


def encode_cursor(created_at: datetime, row_id: UUID) -> str:
    """Name a position in a list, in a form that fits into a URL and discourages building one by hand."""
    return base64.urlsafe_b64encode(f"{created_at.isoformat()} {row_id}".encode()).decode()


def decode_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Return the position that `encode_cursor` named.

    Raises:
        InvalidInputError: it is not a cursor.
    """
    try:
        text = base64.b64decode(cursor, altchars=b"-_", validate=True).decode("ascii")
        created_at, row_id = text.rsplit(" ", 1)
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        position = moment.astimezone(UTC), UUID(row_id)
    except (ValueError, OverflowError) as error:
        raise InvalidInputError("The cursor is not one that this list gave out.") from error
    return position
