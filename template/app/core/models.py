"""What most tables have in common."""

from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base


class Entity(Base):
    """A row with an id, and the time of its creation by the database's clock."""

    __abstract__ = True

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4, sort_order=-2)
    # Not now(), which is the same for all rows of a transaction: lists are sorted by this column.
    created_at: Mapped[datetime] = mapped_column(server_default=text("clock_timestamp()"), sort_order=-1)
