"""Errors of the database that a service expects."""

import asyncpg
import pytest
from sqlalchemy.exc import IntegrityError

from app.core.errors import ConflictError, unique_violation_as


def violation(error: type[asyncpg.PostgresError]) -> IntegrityError:
    return IntegrityError("INSERT", {}, error("for the test"))


@pytest.mark.parametrize("error", [asyncpg.UniqueViolationError, asyncpg.ExclusionViolationError])
def test_a_value_that_is_taken_is_said_in_the_services_own_words(error: type[asyncpg.PostgresError]) -> None:
    with pytest.raises(ConflictError, match="It is taken"), unique_violation_as(ConflictError("It is taken")):
        raise violation(error)


def test_any_other_violation_is_left_as_it_is() -> None:
    with pytest.raises(IntegrityError), unique_violation_as(ConflictError("It is taken")):
        raise violation(asyncpg.ForeignKeyViolationError)


def test_nothing_happens_where_nothing_is_violated() -> None:
    with unique_violation_as(ConflictError("It is taken")):
        pass
