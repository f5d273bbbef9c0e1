"""The example of a project made before 0.4.0 declares nothing: what it opened by a tag is as open as it was."""

import httpx
from fastapi import APIRouter

from app.core.access import is_open
from app.tasks.router import router as tasks
from tests.integration.test_access import (  # noqa: F401
    NOWHERE,
    test_the_document_says_who_may,
    test_what_is_open_declares_it,
    test_what_is_open_needs_none,
    test_without_credentials_nothing_happens,
)


async def test_its_reads_are_open(client: httpx.AsyncClient) -> None:
    paths = ("/api/v1/projects", f"/api/v1/projects/{NOWHERE}", f"/api/v1/projects/{NOWHERE}/tasks")

    assert [(await client.get(path)).status_code for path in paths] == [200, 404, 404]
    assert (await client.post("/api/v1/projects", json={"name": "x"})).status_code == 401


async def test_another_path_or_module_is_closed() -> None:
    async def list_projects() -> None: ...

    router = APIRouter(prefix="/api/v1/projects", tags=["projects"])
    router.get("")(list_projects)
    router.get("/archive")(tasks.routes[1].endpoint)  # type: ignore[attr-defined]

    assert [is_open(route) for route in router.routes] == [False, False]  # type: ignore[arg-type]
