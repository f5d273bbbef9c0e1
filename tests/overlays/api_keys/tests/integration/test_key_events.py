"""Who shows which key is in the log, the key itself is not; and what is deleted twice at once is deleted once."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncSession

from app.api_keys import service
from app.core.access import UnauthorizedError
from app.files import service as files
from app.files.models import STORED, File

RACES = 10


async def test_security_events_are_logged(db_session: AsyncSession, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.security")
    key = await service.create_key(db_session, "ci")
    await db_session.commit()
    await service.authenticate(db_session, key)
    prefix = key.partition(".")[0]
    for wrong in ("a secret of something else", f"{prefix}.wrong"):
        with pytest.raises(UnauthorizedError):
            await service.authenticate(db_session, wrong)
    await service.revoke_key(db_session, "ci")
    await db_session.commit()
    with pytest.raises(UnauthorizedError):
        await service.authenticate(db_session, key)

    events = [vars(record) for record in caplog.records if record.name == "app.security"]
    assert [(event["event"], event["result"], event.get("key")) for event in events] == [
        ("key_created", "ok", prefix),
        ("key", "refused", None),
        ("key", "refused", prefix),
        ("key_revoked", "ok", prefix),
        ("key", "revoked", prefix),
    ]
    said = f"{events}"
    assert "a secret of something else" not in said
    assert key.partition(".")[2] not in said


@pytest.mark.real_db
@pytest.mark.repeats(1000)
async def test_a_file_that_is_deleted_twice_at_once(
    writer: httpx.AsyncClient, db_session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    both_have_it = asyncio.Barrier(2)
    get: Callable[..., Awaitable[File]] = files.get_file

    async def get_together(*arguments: Any, **options: Any) -> File:
        file = await get(*arguments, **options)
        async with asyncio.timeout(30):
            await both_have_it.wait()
        return file

    monkeypatch.setattr(files, "get_file", get_together)
    for number in range(RACES):
        file = File(name=f"{number}.txt", content_type="text/plain", state=STORED, size=0, sha256="")
        db_session.add(file)
        await db_session.commit()
        path = f"/api/v1/files/{file.id}"

        responses = await asyncio.gather(writer.delete(path), writer.delete(path))

        assert sorted(response.status_code for response in responses) == [204, 404]
