"""The tables of `app/ballast`."""

from alembic import op

from app.ballast.models import NAMES
from app.core.db import Base

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    Base.metadata.create_all(op.get_bind(), [Base.metadata.tables[name] for name in NAMES])
