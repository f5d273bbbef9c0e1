"""When the service says that it is ready, and when not."""

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from app.core import schema
from app.core.server import leaving

READY = "/health/ready"


@pytest.fixture
def needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of the service that needs a migration, and knows the one before."""
    monkeypatch.setattr(schema, "revisions", lambda: (frozenset({"second"}), frozenset({"first", "second"})))


async def migrate(db_session: AsyncSession, *revisions: str) -> None:
    await db_session.execute(text("CREATE TABLE IF NOT EXISTS alembic_version (version_num varchar(32) PRIMARY KEY)"))
    await db_session.execute(text("DELETE FROM alembic_version"))
    for revision in revisions:
        await db_session.execute(text("INSERT INTO alembic_version VALUES (:revision)"), {"revision": revision})


@pytest.mark.usefixtures("needed")
@pytest.mark.parametrize(
    ("applied", "status"),
    [((), 503), (("first",), 503), (("second",), 200), (("third",), 200), (("first", "other branch"), 200)],
)
async def test_it_is_when_no_migration_is_missing(
    client: httpx.AsyncClient, db_session: AsyncSession, applied: tuple[str, ...], status: int
) -> None:
    """A migration that is not known here was made by a newer version, which runs beside this one for a while."""
    await migrate(db_session, *applied)

    assert (await client.get(READY)).status_code == status


@pytest.mark.usefixtures("needed")
async def test_it_is_not_when_the_database_was_never_migrated(
    client: httpx.AsyncClient, db_session: AsyncSession
) -> None:
    await migrate(db_session)
    await db_session.execute(text("DROP TABLE alembic_version"))

    response = await client.get(READY)

    assert response.status_code == 503
    assert response.json()["detail"] == "The database has yet to be migrated."


async def test_it_is_not_when_it_is_about_to_stop(client: httpx.AsyncClient) -> None:
    leaving.set()
    try:
        response = await client.get(READY)
    finally:
        leaving.clear()

    assert response.status_code == 503
    assert response.headers["retry-after"]


def test_it_needs_what_the_newest_migrations_make() -> None:
    heads, known = schema.revisions()

    assert heads <= known
    assert len(known) == len([*schema.MIGRATIONS.glob("versions/*.py")])
