"""The tables of accounts, and of who is signed in."""

import re
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app.core.db import Base
from app.core.discovery import feature_modules
from app.core.models import Entity

ROLE_NAME = re.compile(r"[a-z][a-z0-9_]{0,9}")


class Role(StrEnum):
    """What an account may do. Each role may do what those before it may."""

    READER = "reader"
    EDITOR = "editor"
    OWNER = "owner"

    @classmethod
    def _missing_(cls, value: object) -> "Role | None":
        """Find a role that a feature adds: `Role("auditor")`."""
        return ADDED_MEMBERS.get(value)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        """Describe the added roles to clients as well."""
        return handler(schema) | {"enum": roles()}


ADDED = {role: {*included} for module in feature_modules("roles") for role, included in module.ROLES.items()}
"""What features add in `ROLES` of their `roles.py`: roles, each with the roles and scopes that it includes."""
ADDED_MEMBERS: dict[object, Role] = {}

for name in ADDED:
    if not ROLE_NAME.fullmatch(name) or name in [*Role]:
        raise ValueError(f"A role needs a unique name in up to 10 lower-case letters, digits and _, not {name!r}.")
    ADDED_MEMBERS[name] = str.__new__(Role, name)
    ADDED_MEMBERS[name]._name_, ADDED_MEMBERS[name]._value_ = name.upper(), name


def roles() -> list[str]:
    """Return the names of all roles, those of `Role` first."""
    return [*map(str, Role), *ADDED]


def includes(role: str, permission: str) -> bool:
    """Say whether a role has the rights of another one, or a scope. The role of an owner has all."""
    if role in (permission, Role.OWNER):
        return True
    if role in ADDED:
        return any(includes(each, permission) for each in ADDED[role])
    ladder = [*map(str, Role)]
    return role in ladder and permission in ladder[: ladder.index(role)]


class User(Entity):
    """An account. Its sign-ins end when it is deleted."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint(f"role IN ({', '.join(map(repr, roles()))})", name="role"),
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
