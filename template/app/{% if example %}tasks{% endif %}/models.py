"""The table of tasks."""

from uuid import UUID

from sqlalchemy import ForeignKey, Index, String, false
from sqlalchemy.orm import Mapped, mapped_column

from app.core.models import Entity


class Task(Entity):
    """A task of a project. When the project's row is removed, the database removes its tasks."""

    __tablename__ = "tasks"
    __table_args__ = (Index("ix_tasks_project_id_created_at_id", "project_id", "created_at", "id"),)

    project_id: Mapped[UUID] = mapped_column(ForeignKey("projects.id", ondelete="CASCADE"))
    title: Mapped[str] = mapped_column(String(200))
    done: Mapped[bool] = mapped_column(server_default=false())
