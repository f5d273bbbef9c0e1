"""Doing work again that PostgreSQL has undone because it got in the way of other work."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Literal, TypeVar

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.db import AsyncSessionLocal
from app.core.errors import DEADLOCK_DETECTED, SERIALIZATION_FAILURE, sqlstate

ResultT = TypeVar("ResultT")

FIRST_PAUSE = 0.02
"""The longest first pause in seconds. Each may be twice as long as the one before; a random part of it is waited."""


async def in_transaction(
    work: Callable[[AsyncSession], Awaitable[ResultT]],
    *,
    isolation: Literal["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] = "READ COMMITTED",
    attempts: int = 5,
) -> ResultT:
    """Do a unit of work in a transaction of its own, and again if it fell victim to another one.

    `work` may run several times, so it must do nothing that a rollback does not undo. It has committed when this
    returns. So it is safe in a request, whose response comes afterwards: nothing that was answered is done again. It
    takes a connection of its own, so do not call it while another session of the request is in a transaction.

    Source: PostgreSQL's manual, "Serialization Failure Handling".

    Raises:
        DBAPIError: it failed `attempts` times, which a request answers with a 503, or for another reason.
    """
    pause = FIRST_PAUSE
    while True:
        attempts -= 1
        try:
            async with AsyncSessionLocal() as session:
                await session.connection(execution_options={"isolation_level": isolation})
                result = await work(session)
                await session.commit()
                return result
        except DBAPIError as error:
            if sqlstate(error) not in {SERIALIZATION_FAILURE, DEADLOCK_DETECTED} or attempts <= 0:
                raise
        await asyncio.sleep(random.uniform(0, pause))  # noqa: S311 - no secret
        pause *= 2
