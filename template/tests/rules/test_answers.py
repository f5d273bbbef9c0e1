"""An error that clients are not told of turns the test red that gets it."""

import httpx
import pytest
from fastapi.routing import APIRoute

from app.core.openapi import DocumentedAPI, problems
from tests.rules.answers import refuse_undeclared

app = DocumentedAPI()


@app.get("/things/{number}", responses=problems(410))
async def get_thing(number: int) -> int:
    """Answer with a number."""
    return number


ROUTE = next(route for route in app.routes if isinstance(route, APIRoute))
PROBLEM = "application/problem+json"


def check(status: int, media_type: str) -> None:
    """Hold an answer with this status against the document."""
    response = httpx.Response(status, headers={"content-type": media_type})
    refuse_undeclared("GET /things/1", app, {"method": "GET", "route": ROUTE}, response)


@pytest.mark.parametrize("status", [404, 410, 422, 503])
def test_an_error_that_is_declared_may_happen(status: int) -> None:
    """The route declares one, and the application the others."""
    check(status, PROBLEM)


@pytest.mark.parametrize(("status", "media_type"), [(409, PROBLEM), (404, "application/json"), (404, "")])
def test_an_error_that_is_not_declared_is_refused(status: int, media_type: str) -> None:
    """Neither another status will do, nor another media type."""
    with pytest.raises(AssertionError, match=f"GET /things/1 answered {status}"):
        check(status, media_type)


def test_whatever_is_no_error_may_happen() -> None:
    """Only errors come as a surprise to clients."""
    check(202, "text/plain")
