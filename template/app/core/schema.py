"""Which state of the schema this version of the service needs, and whether the database has it."""

from functools import cache
from pathlib import Path

from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

from app.core.errors import sqlstate

MIGRATIONS = Path(__file__).parent.parent.parent / "alembic"
UNDEFINED_TABLE = "42P01"


@cache
def revisions() -> tuple[frozenset[str], frozenset[str]]:
    """Return the newest of the migrations that this version brings, and all of them."""
    scripts = ScriptDirectory(str(MIGRATIONS))
    return frozenset(scripts.get_heads()), frozenset(script.revision for script in scripts.walk_revisions())


async def is_behind(session: AsyncSession) -> bool:
    """Ask the database whether migrations are missing.

    One with a migration that is unknown here is not behind but ahead: a newer version of the service has migrated it,
    beside which this one goes on until it is replaced.
    """
    heads, known = revisions()
    try:
        applied = {*await session.scalars(text("SELECT version_num FROM alembic_version"))}
    except ProgrammingError as error:
        if sqlstate(error) != UNDEFINED_TABLE:
            raise
        applied = set()
    return not heads <= applied and applied <= known
