"""Signing in and out, and who that is."""

import hmac
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import Executable, and_, delete, exists, not_, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import attempts, passwords
from app.auth.config import AuthSettings
from app.auth.errors import BadPasswordError, BadTokenError, TooBusyError, TooManyAttemptsError
from app.auth.models import Role, SignIn, User
from app.auth.tokens import Claims
from app.core.config import load
from app.core.db import AsyncSessionLocal
from app.core.security import current_client, record, record_commit

MOST_CHANGES = 3
"""How often to verify a password that was changed in the meantime."""
SIGN_INS = 100
"""How many sign-ins an account has at a time; one more ends the oldest."""


async def sign_in(session: AsyncSession, username: str, password: str) -> SignIn:
    """Begin a sign-in. Answer and work are the same for an unknown name and for a wrong password.

    Raises:
        BadPasswordError: the name or the password is wrong.
        TooManyAttemptsError: this client has to wait before it tries this name again.
        TooBusyError: too many are signing in.
    """
    username = normalised(username)
    digest = attempts.name_digest(username)
    try:
        guess = await attempts.check(username, current_client().network)
        async with passwords.QUEUE.turn(guess.lane, known=guess.known) as run:
            await attempts.count(guess)
            user = await _verified(run, session, username, password)
    except BadPasswordError as error:
        record("sign_in", "failed", name_digest=digest, user=error.user)
        raise
    except (TooManyAttemptsError, TooBusyError) as error:
        record("sign_in", error.result, name_digest=digest)
        raise
    await attempts.succeed(session, guess)
    new = await begin(session, user)
    record_commit(session, "sign_in", name_digest=digest, user=str(user.id))
    return new


async def _verified(run: passwords.Run, session: AsyncSession, username: str, password: str) -> User:
    """Return the account whose password it is, locked against changes until the transaction ends.

    Raises:
        BadPasswordError: there is no such account, or it has another password.
    """
    found = None
    for _ in range(MOST_CHANGES):
        found = await _find(username)
        is_right = await run(passwords.verify, password, found.password_hash if found else None)
        if found is None and _is_first_account(username, password):
            await _make_first_account(username, await run(passwords.HASHER.hash, password))
            continue
        if found is None or not is_right:
            break
        # It may have been changed while it was verified: only the account that still has this hash is the right one.
        unchanged = (User.id == found.id, User.password_hash == found.password_hash)
        claim: Executable = select(User).where(*unchanged).with_for_update(read=True)
        if passwords.is_outdated(found.password_hash):
            better = await run(passwords.HASHER.hash, password)
            claim = update(User).where(*unchanged).values(password_hash=better).returning(User)
        if user := await session.scalar(claim):
            return user
    raise BadPasswordError(found.id if found else None)


async def begin(session: AsyncSession, user: User) -> SignIn:
    """Sign `user` in, whose identity was proved, and remove their sign-ins that have expired or are too many."""
    now = datetime.now(UTC)
    newest = select(SignIn.id).where(SignIn.user_id == user.id).order_by(SignIn.expires_at.desc()).limit(SIGN_INS - 1)
    is_kept = and_(SignIn.expires_at >= now, SignIn.id.in_(newest))
    await session.execute(delete(SignIn).where(SignIn.user_id == user.id, not_(is_kept)))
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
            record("refresh", "reused", user=str(claims.user_id), sign_in=str(claims.sign_in_id))
        raise BadTokenError
    return renewed


async def sign_out(session: AsyncSession, sign_in_id: UUID) -> None:
    """End a sign-in, and with it all of its tokens."""
    await session.execute(delete(SignIn).where(SignIn.id == sign_in_id))
    record_commit(session, "sign_out", sign_in=str(sign_in_id))


async def authenticate(session: AsyncSession, claims: Claims, *, lock: bool = False) -> User:
    """Return whose access token it is; with `lock`, the sign-in cannot end before the transaction does.

    Raises:
        BadTokenError: the sign-in was ended, or the account deleted.
    """
    signed_in = (
        select(User)
        .join(SignIn, SignIn.user_id == User.id)
        .where(User.id == claims.user_id, SignIn.id == claims.sign_in_id, SignIn.expires_at > datetime.now(UTC))
    )
    user = await session.scalar(signed_in.with_for_update(read=True, of=SignIn) if lock else signed_in)
    if user is None:
        raise BadTokenError
    current_client().identity = str(user.id)
    return user


def normalised(username: str) -> str:
    """Return a name the way it is stored."""
    return username.strip().lower()


async def _find(username: str) -> User | None:
    # In a session that is over before the hashing begins, which would keep the connection from others for long.
    async with AsyncSessionLocal() as session:
        return await session.scalar(select(User).where(User.username == username))


def _is_first_account(username: str, password: str) -> bool:
    settings = load(AuthSettings)
    expected = settings.owner_password.get_secret_value()
    is_password = hmac.compare_digest(password.encode(), expected.encode())
    return bool(expected) and username == normalised(settings.owner_username) and is_password


async def _make_first_account(username: str, password_hash: str) -> None:
    """Make the account that the settings name, if there are no accounts yet."""
    async with AsyncSessionLocal.begin() as session:
        # Two replicas whose settings differ would make two first accounts otherwise.
        await session.execute(text("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE"))
        if not await session.scalar(select(exists(select(User.id)))):
            user = User(id=uuid4(), username=username, password_hash=password_hash, role=Role.OWNER)
            session.add(user)
            record_commit(session, "account_created", account=str(user.id), role=user.role)
