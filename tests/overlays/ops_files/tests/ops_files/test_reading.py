"""What reading a file takes: a link for the method of the request, and rules that are found without looking again."""

from collections.abc import Iterator
from types import ModuleType

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.discovery import feature_modules
from app.files import access
from app.files.access import Action
from app.files.config import FileSettings
from app.files.models import File
from app.files.storage import Storage, StorageUnavailableError
from tests.fixtures.files import URL, upload


@pytest.mark.usefixtures("storage")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_link_is_for_the_method_of_the_request(writer: httpx.AsyncClient, method: str) -> None:
    file = await upload(writer)

    redirect = await writer.request(method, f"{URL}/{file['id']}/content")
    async with httpx.AsyncClient(trust_env=False) as anybody:
        content = await anybody.request(method, redirect.headers["location"])

    assert (redirect.status_code, redirect.headers["cache-control"]) == (307, "no-store")
    assert (content.status_code, content.headers["content-length"]) == (200, "5")


async def test_who_may_not_read_a_file_gets_no_link(app: FastAPI, client: httpx.AsyncClient) -> None:
    path = f"{URL}/00000000-0000-0000-0000-000000000000/content"

    statuses = {method: (await client.request(method, path)).status_code for method in ("GET", "HEAD")}

    assert statuses["GET"] == statuses["HEAD"] in {401, 404}
    assert [*app.openapi()["paths"][URL + "/{file_id}/content"]] == ["get"]


async def test_rules_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_for: list[str] = []

    def noting(name: str) -> Iterator[ModuleType]:
        looked_for.append(name)
        return feature_modules(name)

    monkeypatch.setattr(access, "feature_modules", noting)
    access.rules.cache_clear()

    for _ in range(2):
        assert await access.may(AsyncSession(), None, Action.READ, File(name="a"))

    assert looked_for == ["file_rules"]


@pytest.mark.parametrize("url", ["http://a:65536", "http://[:::]"])
async def test_a_storage_whose_address_does_not_exist_is_not_available(object_store: FileSettings, url: str) -> None:
    """The library panics: the exception has none of the library's classes."""
    storage = Storage(object_store.model_copy(update={"s3_endpoint_url": url}))

    with pytest.raises(StorageUnavailableError):
        await storage.delete("a")
    with pytest.raises(StorageUnavailableError):
        await storage.link("a")
