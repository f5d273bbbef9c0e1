"""The example's rows are still there when they are acted on; RACES times, with the interleaving forced."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.projects.models import Project
from app.tasks import service as tasks
from tests.integration.test_auth_races import RACES, locked, waiting

pytestmark = [pytest.mark.real_db, pytest.mark.repeats(1000)]

PROJECTS = "/api/v1/projects"


async def create(client: httpx.AsyncClient, path: str, **values: str) -> str:
    response = await client.post(path, json=values)
    assert response.status_code == 201
    return f"{response.json()['id']}"


@pytest.mark.parametrize("kind", ["projects", "tasks"])
async def test_what_is_deleted_twice_at_once(writer: httpx.AsyncClient, test_engine: AsyncEngine, kind: str) -> None:
    for number in range(RACES):
        project = await create(writer, PROJECTS, name=f"project {number}")
        path = f"{PROJECTS}/{project}"
        if kind == "tasks":
            path = f"/api/v1/tasks/{await create(writer, f'{path}/tasks', title='task')}"
        async with locked(test_engine, f"SELECT FROM {kind} FOR UPDATE") as connection:
            both = asyncio.gather(writer.delete(path), writer.delete(path))
            await waiting(connection, 2)

        assert sorted(response.status_code for response in await both) == [204, 404]


async def test_a_project_is_not_deleted_while_it_gets_a_task(
    writer: httpx.AsyncClient, test_engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deletion waits, so that no task is added to a project whose deletion was acknowledged."""
    deleting: list[asyncio.Task[httpx.Response]] = []
    get: Callable[..., Awaitable[Project]] = tasks.get_project

    async def get_and_delete(session: Any, project_id: Any, **options: Any) -> Project:
        project = await get(session, project_id, **options)
        deleting.append(asyncio.create_task(writer.delete(f"{PROJECTS}/{project_id}")))
        async with test_engine.connect() as connection:
            await waiting(connection, 1)
        return project

    for number in range(RACES):
        project = await create(writer, PROJECTS, name=f"project {number}")
        monkeypatch.setattr(tasks, "get_project", get_and_delete)
        added = await writer.post(f"{PROJECTS}/{project}/tasks", json={"title": "task"})
        monkeypatch.undo()

        assert added.status_code == 201
        assert (await deleting.pop()).status_code == 204
