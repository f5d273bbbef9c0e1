"""What keys may do with files."""

import httpx
import pytest

from tests.fixtures.files import URL, upload


@pytest.mark.usefixtures("storage")
async def test_a_file_belongs_to_its_key(
    authed_client: httpx.AsyncClient, other_client: httpx.AsyncClient, reading_client: httpx.AsyncClient
) -> None:
    """Every key may read it, since a key that only reads could read nothing otherwise."""
    file = f"{URL}/{(await upload(authed_client))['id']}"

    assert [(await each.get(file)).status_code for each in (other_client, reading_client)] == [200, 200]
    assert [(await each.delete(file)).status_code for each in (other_client, reading_client)] == [403, 403]
    assert (await authed_client.delete(file)).status_code == 204
