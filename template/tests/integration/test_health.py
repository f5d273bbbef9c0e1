"""The first things to look at when something is wrong: is the service up, and can a test reach the database?"""

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

pytestmark = pytest.mark.ci_critical


async def test_health_returns_200(client: httpx.AsyncClient) -> None:
    response = await client.get("/health")

    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


async def test_readiness_asks_the_database(client: httpx.AsyncClient) -> None:
    response = await client.get("/health/ready")

    assert response.status_code == 200


async def test_404_returns_structured_error(client: httpx.AsyncClient) -> None:
    response = await client.get("/no/such/page")

    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "Not Found",
        "instance": "/no/such/page",
        "request_id": response.headers["x-request-id"],
    }


async def test_db_session_connects(db_session: AsyncSession) -> None:
    assert await db_session.scalar(text("SELECT 1")) == 1
