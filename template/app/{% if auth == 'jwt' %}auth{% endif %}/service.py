"""Signing in and out, and who that is."""

import hashlib
import logging
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import case, delete, exists, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import passwords
from app.auth.config import AuthSettings
from app.auth.errors import BadPasswordError, BadTokenError, TooManyAttemptsError
from app.auth.models import Attempts, Role, SignIn, User
from app.auth.tokens import Claims
from app.core.config import load
from app.core.db import AsyncSessionLocal

log = logging.getLogger(__name__)


async def sign_in(session: AsyncSession, username: str, password: str) -> SignIn:
    """Begin a sign-in. Answer and work are the same for an unknown name and for a wrong password.

    Raises:
        BadPasswordError: the name or the password is wrong.
        TooManyAttemptsError: this name was tried too often.
        TooBusyError: too many are signing in.
    """
    username = normalised(username)
    await count_attempt(username)
    user = await _find(username) or await _make_first_account(username)
    if not await passwords.is_password(password, user.password_hash if user else None) or user is None:
        raise BadPasswordError
    if passwords.is_outdated(user.password_hash):
        better = await passwords.hash_password(password)
        await session.execute(update(User).where(User.id == user.id).values(password_hash=better))
    await forget_attempts(session, username)
    return await begin(session, user)


async def begin(session: AsyncSession, user: User) -> SignIn:
    """Sign `user` in, whose identity was proved, and remove their sign-ins that have expired."""
    now = datetime.now(UTC)
    await session.execute(delete(SignIn).where(SignIn.user_id == user.id, SignIn.expires_at < now))
    until = now + timedelta(seconds=load(AuthSettings).sign_in_lifetime)
    new = SignIn(user_id=user.id, refresh_id=uuid4(), expires_at=until)
    session.add(new)
    await session.flush()
    return new


async def refresh(session: AsyncSession, claims: Claims) -> SignIn:
    """Exchange a refresh token for the next one (RFC 9700, section 4.14.2).

    Raises:
        BadTokenError: the sign-in has ended, or the token was used before. Whoever used it first may have stolen it,
            so the sign-in ends for both.
    """
    current = (SignIn.id == claims.sign_in_id, SignIn.refresh_id == claims.token_id)
    renewed = await session.scalar(
        update(SignIn)
        .where(*current, SignIn.user_id == claims.user_id, SignIn.expires_at > datetime.now(UTC))
        .values(refresh_id=uuid4())
        .returning(SignIn)
    )
    if renewed is None:
        ended = await session.scalar(delete(SignIn).where(SignIn.id == claims.sign_in_id).returning(SignIn.id))
        await session.commit()  # Now, because the error rolls back what is not committed.
        if ended:
            log.warning("a refresh token was used twice: its sign-in was ended")
        raise BadTokenError
    return renewed


async def sign_out(session: AsyncSession, sign_in_id: UUID) -> None:
    """End a sign-in, and with it all of its tokens."""
    await session.execute(delete(SignIn).where(SignIn.id == sign_in_id))


async def authenticate(session: AsyncSession, claims: Claims) -> User:
    """Return whose access token it is.

    Raises:
        BadTokenError: the sign-in was ended, or the account deleted.
    """
    user = await session.scalar(
        select(User)
        .join(SignIn, SignIn.user_id == User.id)
        .where(User.id == claims.user_id, SignIn.id == claims.sign_in_id, SignIn.expires_at > datetime.now(UTC))
    )
    if user is None:
        raise BadTokenError
    return user


async def count_attempt(username: str) -> None:
    """Count an attempt with a name before it is made, so that many at the same time count as many.

    Raises:
        TooManyAttemptsError: there were too many.
    """
    settings, now = load(AuthSettings), datetime.now(UTC)
    until = now + timedelta(seconds=settings.sign_in_window)
    over = Attempts.until < now
    outdated = select(Attempts.name_digest).where(over).limit(100).with_for_update(skip_locked=True)
    counted = insert(Attempts).values(name_digest=_digest(username), count=1, until=until)
    counted = counted.on_conflict_do_update(
        index_elements=[Attempts.name_digest],
        set_={"count": case((over, 1), else_=Attempts.count + 1), "until": case((over, until), else_=Attempts.until)},
    )
    async with AsyncSessionLocal.begin() as counting:  # On its own: a failed attempt is counted nevertheless.
        await counting.execute(delete(Attempts).where(Attempts.name_digest.in_(outdated)))
        row = (await counting.execute(counted.returning(Attempts.count, Attempts.until))).one()
    if row.count > settings.sign_in_attempts:
        raise TooManyAttemptsError(row.until - now)


async def forget_attempts(session: AsyncSession, username: str) -> None:
    """Begin to count anew, after an attempt that was right."""
    await session.execute(delete(Attempts).where(Attempts.name_digest == _digest(username)))


def normalised(username: str) -> str:
    """Return a name the way it is stored."""
    return username.strip().lower()


async def _find(username: str) -> User | None:
    # In a session that is over before the hashing begins, which would keep the connection from others for long.
    async with AsyncSessionLocal() as session:
        return await session.scalar(select(User).where(User.username == username))


async def _make_first_account(username: str) -> User | None:
    """Make the account that the settings name, if `username` is its name and there are no accounts yet."""
    settings = load(AuthSettings)
    if not username or username != normalised(settings.owner_username):
        return None
    password_hash = await passwords.hash_password(settings.owner_password.get_secret_value())
    values = {"id": uuid4(), "username": username, "password_hash": password_hash, "role": Role.OWNER.value}
    columns = [literal(value, User.__table__.c[name].type).label(name) for name, value in values.items()]
    if_first = insert(User).from_select([*values], select(*columns).where(~exists(select(User.id))))
    async with AsyncSessionLocal.begin() as session:
        await session.execute(if_first.on_conflict_do_nothing())
    return await _find(username)


def _digest(username: str) -> str:
    # Some type their password here by mistake, and it is not to be stored.
    return hashlib.sha256(username.encode()).hexdigest()
