"""Uploads are bounded: in number, and in the time that they may take without getting anywhere."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable

import httpx
import pytest
from fastapi import FastAPI

from app.files.config import MOST_PARTS, PART_SIZE, SMALLEST_PART, FileSettings
from app.files.form import BLOCK_SIZE
from app.files.storage import Storage
from tests.fixtures.files import AFTER, BEFORE, FORM, URL

pytestmark = pytest.mark.usefixtures("storage")


async def test_one_that_fails_makes_room(
    writer: httpx.AsyncClient, storage: Storage, limit_uploads: Callable[..., None]
) -> None:
    limit_uploads(max_uploads=1)

    statuses = [(await writer.post(URL, content=b"no form", headers=FORM)).status_code for _ in range(3)]

    assert statuses == [422, 422, 422]
    assert storage.uploads == 0


async def test_one_that_trickles_is_given_up(writer: httpx.AsyncClient, limit_uploads: Callable[..., None]) -> None:
    """To send a byte now and then is no progress."""
    limit_uploads(upload_idle_timeout=0.5)

    async def trickling() -> AsyncGenerator[bytes]:
        yield BEFORE
        while True:
            yield b"x"
            await asyncio.sleep(0.05)

    async with asyncio.timeout(30):
        assert (await writer.post(URL, content=trickling(), headers=FORM)).status_code == 408


async def test_one_that_is_slow_but_gets_somewhere_is_stored(
    writer: httpx.AsyncClient, limit_uploads: Callable[..., None]
) -> None:
    limit_uploads(upload_idle_timeout=2)

    async def slow() -> AsyncGenerator[bytes]:
        yield BEFORE
        for _ in range(5):
            yield b"x" * BLOCK_SIZE
            await asyncio.sleep(0.6)
        yield AFTER

    assert (await writer.post(URL, content=slow(), headers=FORM)).status_code == 201


async def test_a_slow_storage_is_not_the_clients_fault(
    writer: httpx.AsyncClient, storage: Storage, limit_uploads: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_uploads(upload_idle_timeout=0.5)
    put = storage.put

    async def put_slowly(key: str, blocks: AsyncIterator[bytes], headers: dict[str, str]) -> None:
        async def slowly() -> AsyncGenerator[bytes]:
            async for block in blocks:
                await asyncio.sleep(0.8)
                yield block

        await put(key, slowly(), headers)

    monkeypatch.setattr(storage, "put", put_slowly)

    assert (await writer.post(URL, files={"file": ("a", b"x" * 3 * BLOCK_SIZE)})).status_code == 201


async def test_what_a_storage_says_is_not_logged_as_a_whole(
    app: FastAPI, writer: httpx.AsyncClient, object_store: FileSettings, caplog: pytest.LogCaptureFixture
) -> None:
    """To a wrong signature, AWS answers with all that was to be signed: tokens are part of it."""
    app.state.storage = Storage(object_store.model_copy(update={"s3_secret_access_key": "another-secret-access-key"}))

    response = await writer.post(URL, files={"file": ("a", b"a")})

    assert response.status_code == 503
    assert "SignatureDoesNotMatch" in caplog.text
    assert "<" not in caplog.text
    assert "Debug source" not in caplog.text
    assert max(len(record.getMessage()) for record in caplog.records) < 500


@pytest.mark.parametrize(
    ("most", "size"),
    [(1, SMALLEST_PART), (100 * 1024**2, SMALLEST_PART), (PART_SIZE * MOST_PARTS, PART_SIZE)],
)
def test_parts_are_as_small_as_the_largest_file_allows(most: int, size: int) -> None:
    settings = FileSettings(environment="test", max_upload_bytes=most)

    assert settings.part_size == size
    assert settings.part_size * MOST_PARTS >= most
