"""A file belongs to the account that uploaded it."""

from uuid import UUID

import httpx
import pytest
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.models import Role, User
from app.files.models import File
from tests.fixtures.auth import MakeUser, SignedIn
from tests.fixtures.files import URL, upload

pytestmark = pytest.mark.usefixtures("storage")


async def statuses(client: httpx.AsyncClient, file: str) -> list[int]:
    answers = [await client.get(f"{URL}/{file}"), await client.get(f"{URL}/{file}/content")]
    return [*(answer.status_code for answer in answers), (await client.delete(f"{URL}/{file}")).status_code]


async def test_an_upload_belongs_to_its_account(
    authed_client: httpx.AsyncClient, user: User, db_session: AsyncSession
) -> None:
    file = await upload(authed_client)

    assert await db_session.scalar(select(File.owner_id).where(File.id == UUID(file["id"]))) == user.id
    assert await statuses(authed_client, file["id"]) == [200, 307, 204]


async def test_nobody_else_sees_it(authed_client: httpx.AsyncClient, other_client: httpx.AsyncClient) -> None:
    file = await upload(authed_client)

    assert await statuses(other_client, file["id"]) == [404, 404, 404]


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("reader", [404, 404, 403]),
        ("editor", [404, 404, 404]),
        ("auditor", [200, 307, 403]),
        ("owner", [200, 307, 204]),
    ],
)
async def test_a_role_may_do_what_its_scopes_say(
    role: str, expected: list[int], authed_client: httpx.AsyncClient, make_user: MakeUser, signed_in: SignedIn
) -> None:
    file = await upload(authed_client)

    assert await statuses(await signed_in(await make_user(role=Role(role))), file["id"]) == expected


async def test_a_file_without_an_owner_is_everybodys(
    authed_client: httpx.AsyncClient, other_client: httpx.AsyncClient, db_session: AsyncSession
) -> None:
    file = await upload(authed_client)
    await db_session.execute(update(File).values(owner_id=None))

    assert await statuses(other_client, file["id"]) == [200, 307, 204]
