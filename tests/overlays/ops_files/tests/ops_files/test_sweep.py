"""The clean-up removes what it can, and leaves no upload behind that is still under way."""

from datetime import timedelta
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from obstore.store import S3Store
from sqlalchemy import text, update

from app.core.db import AsyncSessionLocal
from app.core.errors import UnavailableError
from app.files import service
from app.files.config import REQUEST_TIMEOUT, RETRIES, FileSettings
from app.files.models import DOOMED, File
from app.files.storage import Storage
from tests.fixtures.files import keys_of, upload


@pytest.mark.parametrize("seconds", [0.001, 10, 900])
def test_an_upload_is_not_given_up_while_the_storage_may_try_again(seconds: float) -> None:
    settings = FileSettings(environment="test", upload_timeout=seconds)

    assert settings.given_up_after > timedelta(seconds=seconds) + (RETRIES + 1) * REQUEST_TIMEOUT


async def test_one_that_cannot_be_deleted_keeps_no_other(
    app: FastAPI, writer: httpx.AsyncClient, storage: Storage, objects: S3Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = min([(await upload(writer))["id"] for _ in range(4)], key=UUID)
    async with AsyncSessionLocal.begin() as session:
        await session.execute(update(File).values(state=DOOMED, created_at=text("now() - interval '1 day'")))
    delete = storage.delete

    async def delete_others(key: str) -> None:
        if key == first:
            raise RuntimeError("The storage keeps this one.")
        await delete(key)

    monkeypatch.setattr(service, "SWEPT_AT_ONCE", 2)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "delete", delete_others)
        with pytest.raises(UnavailableError, match="1 of 4"):
            await service.sweep(storage, app.state.file_settings)

    assert await keys_of(objects) == [first]
    assert await service.sweep(storage, app.state.file_settings) == 1
