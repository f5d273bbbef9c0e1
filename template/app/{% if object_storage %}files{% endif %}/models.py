"""The table of files. The bytes are in object storage, under the row's id."""

from uuid import UUID

from sqlalchemy import BigInteger, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from app.core.models import Entity

PENDING, STORED, DOOMED = "pending", "stored", "doomed"


class File(Entity):
    """A file. Only a stored one can be seen; of the others, there may be an object or not.

    A row is there before its object comes and until it is gone, so no object is ever without one.
    """

    __tablename__ = "files"
    __table_args__ = (Index("ix_files_created_at_unsettled", "created_at", postgresql_where=text("state <> 'stored'")),)

    owner_id: Mapped[UUID | None]
    """Who uploaded it, `Caller.id`. None for anonymous uploads, and those from before version 0.4.0 of the template."""
    state: Mapped[str] = mapped_column(String(10), default=PENDING)
    name: Mapped[str] = mapped_column(String(255))
    content_type: Mapped[str] = mapped_column(String(127))
    size: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str | None] = mapped_column(String(64))
