"""What can be done with API keys."""

import hashlib
import hmac
import secrets
from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.api_keys.models import ApiKey
from app.core.access import UnauthorizedError
from app.core.errors import ConflictError, NotFoundError, unique_violation_as
from app.core.security import current_client, record, record_commit

CHALLENGE = 'ApiKey header="X-API-Key"'


async def create_key(session: AsyncSession, name: str, *, may_write: bool = True) -> str:
    """Make a key and return it. It is not stored, so this is the only time that anybody sees it.

    Raises:
        ConflictError: there is or was a key of this name.
    """
    prefix, secret = secrets.token_hex(8), secrets.token_urlsafe(32)
    session.add(ApiKey(name=name, prefix=prefix, digest=_digest(secret), may_write=may_write))
    with unique_violation_as(ConflictError(f"There is, or was, a key of the name {name!r}: choose another.")):
        await session.flush()
    record_commit(session, "key_created", key=prefix, may_write=str(may_write).lower())
    return f"{prefix}.{secret}"


async def revoke_key(session: AsyncSession, name: str) -> None:
    """Make a key worthless from now on.

    Raises:
        NotFoundError: there is none of this name.
    """
    key = await session.scalar(select(ApiKey).where(ApiKey.name == name).with_for_update())
    if key is None:
        raise NotFoundError(f"There is no key of the name {name!r}.")
    key.revoked_at = key.revoked_at or datetime.now(UTC)
    record_commit(session, "key_revoked", key=key.prefix)


async def authenticate(session: AsyncSession, given: str) -> ApiKey:
    """Return the key that was given.

    Raises:
        UnauthorizedError: it is not one of ours, or it was revoked.
    """
    prefix, _, secret = given.partition(".")
    key = await session.scalar(select(ApiKey).where(ApiKey.prefix == prefix)) if _is_prefix(prefix) else None
    # No time to learn from: the comparison takes as long wherever the two differ, and also where there is no key.
    is_right = hmac.compare_digest(key.digest if key else _digest(""), _digest(secret))
    if key is None or not is_right or key.revoked_at is not None:
        # Not what was sent: it may be a key of something else.
        record("key", "revoked" if key and is_right else "refused", key=key.prefix if key else None)
        raise UnauthorizedError("The API key is not valid, or was revoked.", CHALLENGE)
    current_client().identity = key.prefix
    return key


def _is_prefix(prefix: str) -> bool:
    return prefix.isascii() and prefix.isalnum()


def _digest(secret: str) -> str:
    # A plain hash will do, unlike for passwords: nobody can guess 256 random bits.
    return hashlib.sha256(secret.encode()).hexdigest()
