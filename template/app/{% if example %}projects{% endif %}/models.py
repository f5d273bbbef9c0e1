"""The table of projects."""

from datetime import datetime

from sqlalchemy import Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.models import Entity


class Project(Entity):
    """A project. A deleted one keeps its row, and frees its name."""

    __tablename__ = "projects"
    __table_args__ = (
        Index("uq_projects_name", "name", unique=True, postgresql_where=text("deleted_at IS NULL")),
        Index("ix_projects_created_at_id", "created_at", "id", postgresql_where=text("deleted_at IS NULL")),
    )

    name: Mapped[str] = mapped_column(String(100))
    description: Mapped[str | None] = mapped_column(String(2000))
    deleted_at: Mapped[datetime | None]
