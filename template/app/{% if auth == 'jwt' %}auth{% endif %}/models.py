"""The tables of accounts, and of who is signed in."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base
from app.core.models import Entity


class Role(StrEnum):
    """What an account may do. Each role may do what those before it may."""

    READER = "reader"
    EDITOR = "editor"
    OWNER = "owner"


class User(Entity):
    """An account. Its sign-ins end when it is deleted."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("role IN ('reader', 'editor', 'owner')", name="role"),
        Index("ix_users_created_at_id", "created_at", "id"),
    )

    username: Mapped[str] = mapped_column(String(100), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))
    role: Mapped[str] = mapped_column(String(10))


class SignIn(Entity):
    """Somebody is signed in: the family of all tokens that one sign-in with a password has led to.

    There is one refresh token in it at a time. Without the row, no token of the family is worth anything.
    """

    __tablename__ = "sign_ins"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), index=True)
    refresh_id: Mapped[UUID]
    expires_at: Mapped[datetime]


class Attempts(Base):
    """How often somebody has tried to sign in with a name, whether there is such an account or not."""

    __tablename__ = "sign_in_attempts"

    name_digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    count: Mapped[int]
    until: Mapped[datetime] = mapped_column(index=True)
