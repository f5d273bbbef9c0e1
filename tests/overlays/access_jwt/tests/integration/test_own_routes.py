"""Routes of an owner's own: those of `app/extra`, and a role of `app/audits`. No managed file knows of them."""

import asyncio

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from app.auth import service, tokens
from app.auth.models import Role, includes, roles
from tests.fixtures.auth import MakeUser, SignedIn
from tests.harness.queries import query_budget

# The suite's own tests, which go through all routes, have to be green with these as well.
from tests.integration.test_access import (  # noqa: F401
    test_a_refusal_names_the_credentials,
    test_the_document_says_who_may,
    test_what_is_open_needs_none,
    test_without_credentials_nothing_happens,
)
from tests.integration.test_permissions import (  # noqa: F401
    client_with_role,
    role,
    test_a_role_may_do_what_it_is_for,
    test_every_role_that_a_route_needs_exists,
    test_the_database_knows_the_role,
)

REQUESTS = (
    ("POST", "/api/v1/extra/purge"),
    ("GET", "/api/v1/extra/secrets"),
    ("POST", "/api/v1/extra/search"),
    ("POST", "/api/v1/extra/vote"),
    ("POST", "/api/v1/audits"),
)


@pytest.mark.parametrize(
    ("name", "statuses"),
    [
        (None, [401, 401, 401, 200, 401]),
        ("reader", [403, 403, 200, 200, 403]),
        ("editor", [403, 403, 200, 200, 403]),
        ("owner", [200, 200, 200, 200, 200]),
        ("auditor", [403, 403, 200, 200, 200]),
    ],
)
async def test_each_role_may_do_what_routes_declare(
    name: str | None, statuses: list[int], client: httpx.AsyncClient, make_user: MakeUser, signed_in: SignedIn
) -> None:
    caller = client if name is None else await signed_in(await make_user(role=Role(name)))

    assert [(await caller.request(method, path)).status_code for method, path in REQUESTS] == statuses


def test_roles_include_each_other() -> None:
    assert roles() == ["reader", "editor", "owner", "auditor"]
    assert [includes(each, "auditor") for each in roles()] == [False, False, True, True]
    assert [includes("auditor", each) for each in ("reader", "files:read", "editor")] == [True, True, False]
    assert [includes(each, "files:delete") for each in roles()] == [False, False, True, False]
    assert not includes("stranger", "reader")
    with pytest.raises(ValueError, match="'stranger' is not a valid Role"):
        Role("stranger")


async def test_an_account_gets_an_added_role(make_user: MakeUser, signed_in: SignedIn, app: FastAPI) -> None:
    owner = await signed_in(await make_user(role=Role.OWNER))
    new = {"username": "ada", "password": "correct horse battery staple", "role": "auditor"}

    assert (await owner.post("/api/v1/users", json=new)).json()["role"] == "auditor"
    assert (await owner.post("/api/v1/users", json=new | {"role": "stranger"})).status_code == 422
    assert app.openapi()["components"]["schemas"]["Role"]["enum"] == roles()


async def test_an_endless_stream_is_read_in_part(authed_client: httpx.AsyncClient) -> None:
    async with authed_client.stream("GET", "/api/v1/extra/events") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        assert await anext(response.aiter_lines()) == "data: tick"


async def test_the_account_is_asked_for_once(make_user: MakeUser, signed_in: SignedIn) -> None:
    owner = await signed_in(await make_user(role=Role.OWNER))

    with query_budget(1):
        assert (await owner.get("/api/v1/extra/secrets")).status_code == 200


async def test_a_websocket_over_a_socket(
    live_client: httpx.AsyncClient, db_session: AsyncSession, make_user: MakeUser
) -> None:
    url = str(live_client.base_url).replace("http", "ws")
    token = tokens.access_token(await service.begin(db_session, await make_user()))
    await db_session.commit()

    for path in ("extra/talk", "chat/echo"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{url}/api/v1/{path}", proxy=None)
        assert refused.value.response.status_code == 401
        assert refused.value.response.headers["www-authenticate"] == "Bearer"
        headers = {"Authorization": f"Bearer {token}"}
        async with connect(f"{url}/api/v1/{path}", additional_headers=headers, proxy=None) as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"
    async with connect(f"{url}/api/v1/extra/listen", proxy=None) as socket:
        assert await asyncio.wait_for(socket.recv(), 60) == "hello"


async def test_a_reader_may_not_talk(
    live_client: httpx.AsyncClient, db_session: AsyncSession, make_user: MakeUser
) -> None:
    url = str(live_client.base_url).replace("http", "ws")
    token = tokens.access_token(await service.begin(db_session, await make_user(role=Role.READER)))
    await db_session.commit()

    with pytest.raises(InvalidStatus) as refused:
        await connect(f"{url}/api/v1/chat/echo", additional_headers={"Authorization": f"Bearer {token}"}, proxy=None)

    assert refused.value.response.status_code == 403


async def test_a_sub_router(client: httpx.AsyncClient, authed_client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/shop/orders/7")).status_code == 401
    assert (await authed_client.get("/api/v1/shop/orders/7")).json() == 7
    assert (await authed_client.get("/api/v1/shop/orders/x")).status_code == 422
    response = await authed_client.delete("/api/v1/shop/orders/7")
    assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")
    assert "/api/v1/shop/orders/{number}" in (await client.get("/openapi.json")).json()["paths"]


async def test_files_of_a_feature(client: httpx.AsyncClient, authed_client: httpx.AsyncClient) -> None:
    assert (await client.get("/static/router.py")).status_code == 401
    assert (await authed_client.get("/static/router.py")).status_code == 200
