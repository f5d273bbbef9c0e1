"""What clients send and see of accounts and tokens."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Form
from pydantic import BaseModel, Field, StringConstraints

from app.auth.config import Secret
from app.auth.models import Role
from app.core.schemas import Readable, Text

Username = Annotated[
    str,
    StringConstraints(strip_whitespace=True, to_lower=True, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$", max_length=100),
]
"""A name to sign in with, e-mail addresses included. Upper and lower case are the same."""
NewPassword = Annotated[Secret, Field(min_length=12, max_length=200)]
Password = Annotated[Secret, Field(min_length=1, max_length=200)]


class PasswordForm(BaseModel):
    """The form that OAuth 2 asks a password with (RFC 6749, section 4.3.2)."""

    grant_type: Literal["password"] = "password"
    username: Annotated[Text, Field(min_length=1, max_length=100)]
    password: Password


PasswordGrant = Annotated[PasswordForm, Form()]


class RefreshRequest(BaseModel):
    """What new tokens are asked for with."""

    refresh_token: Annotated[str, Field(max_length=2000)]


class Tokens(BaseModel):
    """What a client gets when it signs in (RFC 6749, section 5.1)."""

    access_token: str
    refresh_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the standard's word
    expires_in: int = Field(description="For how many seconds the access token is good.")


class UserCreate(BaseModel):
    """A new account."""

    username: Username
    password: NewPassword
    role: Role = Role.EDITOR


class UserUpdate(BaseModel):
    """What an account may do from now on."""

    role: Role


class PasswordChange(BaseModel):
    """A new password; the old one proves who asks."""

    current_password: Password
    new_password: NewPassword


class UserRead(Readable):
    """An account as clients see it."""

    id: UUID
    created_at: datetime
    username: str
    role: Role
