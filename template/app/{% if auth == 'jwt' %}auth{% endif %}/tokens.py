"""Access and refresh tokens: JSON web tokens (RFC 7519) that only this service can make and read.

A token is worth something only as long as the sign-in that it belongs to is in the database, so ending that ends both.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

import jwt

from app.auth.config import AuthSettings
from app.auth.errors import BadTokenError
from app.auth.models import SignIn
from app.core.config import load

ALGORITHM = "HS256"
CLAIMS = ("exp", "sub", "sid", "jti", "use")


class Use(StrEnum):
    """What a token is for, so that one is never taken for the other."""

    ACCESS = "access"
    REFRESH = "refresh"


@dataclass(frozen=True)
class Claims:
    """What a token says: who, in which sign-in, and which token of it."""

    user_id: UUID
    sign_in_id: UUID
    token_id: UUID


def access_token(sign_in: SignIn) -> str:
    """Return a token for requests."""
    until = datetime.now(UTC) + timedelta(seconds=load(AuthSettings).access_token_lifetime)
    return _encode(sign_in, Use.ACCESS, until)


def refresh_token(sign_in: SignIn) -> str:
    """Return the token for new tokens; it can be used once."""
    return _encode(sign_in, Use.REFRESH, sign_in.expires_at)


def read(token: str, use: Use) -> Claims:
    """Return what a token says.

    Raises:
        BadTokenError: we did not make it, it has expired, or it is for another use.
    """
    key = load(AuthSettings).jwt_secret.get_secret_value()
    try:
        # The list of algorithms is ours: a token that could choose its own would choose none.
        claims = jwt.decode(token, key, algorithms=[ALGORITHM], options={"require": [*CLAIMS]})
        if claims["use"] != use:
            raise BadTokenError
        return Claims(UUID(claims["sub"]), UUID(claims["sid"]), UUID(claims["jti"]))
    # A claim can be of any type, and of any size; and the first part of a token is read before it is verified.
    except (jwt.InvalidTokenError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise BadTokenError from error


def _encode(sign_in: SignIn, use: Use, until: datetime) -> str:
    key = load(AuthSettings).jwt_secret.get_secret_value()
    claims = {"sub": str(sign_in.user_id), "sid": str(sign_in.id), "jti": str(sign_in.refresh_id)}
    return jwt.encode(claims | {"use": use, "exp": until}, key, ALGORITHM)
