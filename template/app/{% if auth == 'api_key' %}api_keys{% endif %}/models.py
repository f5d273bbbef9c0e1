"""The table of API keys."""

from datetime import datetime

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.models import Entity


class ApiKey(Entity):
    """A key, of which only what finds it and what verifies it is stored. A revoked one keeps its row, and its name."""

    __tablename__ = "api_keys"

    name: Mapped[str] = mapped_column(String(100), unique=True)
    prefix: Mapped[str] = mapped_column(String(16), unique=True)
    digest: Mapped[str] = mapped_column(String(64))
    may_write: Mapped[bool]
    revoked_at: Mapped[datetime | None]
