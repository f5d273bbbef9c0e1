"""Slow down guessing passwords: attempts are counted by name and client, in the database, for all processes together.

One client may try a name SIGN_IN_ATTEMPTS times; then it has to wait before each further attempt, twice as long every
time, up to SIGN_IN_WINDOW. Clients without an earlier sign-in to the account also share a count for the name, which
slows down guessing from many addresses; known clients are not affected by it (OWASP, "Slow Down Online Guessing Attacks
with Device Cookies"). A count is forgotten SIGN_IN_WINDOW after the next attempt was allowed.

The counts are kept in a fixed number of slots, so that the table stays small whatever names and addresses are used.
"""

import hashlib
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, case, delete, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth.config import AuthSettings
from app.auth.errors import TooManyAttemptsError
from app.auth.models import Attempts
from app.core.config import load
from app.core.db import AsyncSessionLocal

STEPS = 64
"""The first wait is this part of SIGN_IN_WINDOW: 14 seconds of a quarter of an hour."""
CLIENTS = 10
"""All unknown clients together have as many attempts at a name as this number of clients."""
SLOT_DIGITS = 5
"""Counts are kept under so many hexadecimal digits of a keyed hash: at most 16^5 rows for each kind of count."""


@dataclass(frozen=True)
class Guess:
    """A client that tries a name; `known` if it has signed in to that account before."""

    username: str
    client: str
    known: bool = False

    @property
    def lane(self) -> str:
        """The lane of the queue: one for each client, and one for each account that it is known for."""
        return f"{self.client} {self.username}" if self.known else self.client

    @property
    def of_client(self) -> str:
        """The key of the attempts of this client with this name."""
        return "client:" + _digest(self.username, self.client)[:SLOT_DIGITS]

    @property
    def of_name(self) -> str:
        """The key of the attempts of all unknown clients with this name."""
        return "name:" + name_digest(self.username)

    @property
    def success(self) -> str:
        """The key of the mark that a sign-in from this client has succeeded. It has no attempts."""
        return "known:" + _digest(self.username, self.client)[: 64 - len("known:")]


async def check(username: str, client: str) -> Guess:
    """Return the guess, if the client may make one now. This counts nothing.

    Raises:
        TooManyAttemptsError: the client has to wait.
    """
    guess, now = Guess(username, client), datetime.now(UTC)
    keys = (guess.of_client, guess.of_name, guess.success)
    async with AsyncSessionLocal() as session:
        rows = await session.scalars(select(Attempts).where(Attempts.name_digest.in_(keys), Attempts.until > now))
        kept = {row.name_digest: row for row in rows}
    guess = Guess(username, client, known=guess.success in kept)
    limits = [(kept[key], free) for key, (free, _) in _counted(guess).items() if key in kept]
    waits = [row.until - _window() - now for row, free in limits if row.count >= free]
    if waits and max(waits) > timedelta():
        raise TooManyAttemptsError(max(waits))
    return guess


async def count(guess: Guess) -> None:
    """Count a guess right before it is hashed, so that many at the same time count as many.

    Raises:
        TooManyAttemptsError: the client has to wait, after attempts since `check`.
    """
    now = datetime.now(UTC)
    outdated = select(Attempts.name_digest).where(Attempts.until < now).limit(100).with_for_update(skip_locked=True)
    async with AsyncSessionLocal.begin() as session:  # Its own transaction: a failed attempt is counted nevertheless.
        for key, (free, longest) in _counted(guess).items():
            more = case((Attempts.until < now, 1), else_=Attempts.count + 1)
            counting = insert(Attempts).values(name_digest=key, count=1, until=_until(now, literal(1), free, longest))
            counting = counting.on_conflict_do_update(
                index_elements=[Attempts.name_digest],
                set_={"count": more, "until": _until(now, more, free, longest)},
                where=or_(Attempts.count < free, Attempts.until <= now + _window()),
            )
            if await session.scalar(counting.returning(Attempts.count)) is None:
                until = await session.scalar(select(Attempts.until).where(Attempts.name_digest == key))
                raise TooManyAttemptsError((until or now) - _window() - now)
        # Last, and without waiting for locks: no deadlock.
        await session.execute(delete(Attempts).where(Attempts.name_digest.in_(outdated)))


async def succeed(session: AsyncSession, guess: Guess) -> None:
    """Forget the attempts of a client whose guess was right, and remember the client as long as a sign-in lasts."""
    await session.execute(delete(Attempts).where(Attempts.name_digest == guess.of_client))
    if not guess.known:
        taken_back = update(Attempts).where(Attempts.name_digest == guess.of_name, Attempts.count > 0)
        await session.execute(taken_back.values(count=Attempts.count - 1))
    until = datetime.now(UTC) + timedelta(seconds=load(AuthSettings).sign_in_lifetime)
    mark = insert(Attempts).values(name_digest=guess.success, count=0, until=until)
    await session.execute(mark.on_conflict_do_update(index_elements=[Attempts.name_digest], set_={"until": until}))


def name_digest(username: str) -> str:
    """Return what stands for a name where the name itself must not be: in the log, and in the table."""
    return _digest(username)[:SLOT_DIGITS]


def _counted(guess: Guess) -> dict[str, tuple[int, timedelta]]:
    # Each key with the number of attempts that need not wait, and the longest wait. Those of a client come first in
    # every transaction, so that no two of them wait for each other.
    free = load(AuthSettings).sign_in_attempts
    counts = {guess.of_client: (free, _window())}
    if not guess.known:
        # The wait does not grow: it must not lock out a new client with the right password.
        counts[guess.of_name] = (free * CLIENTS, _window() / STEPS)
    return counts


def _until(now: datetime, count: ColumnElement[int], free: int, longest: timedelta) -> ColumnElement[datetime]:
    # When an attempt is forgotten, which is the window after the end of the wait.
    doublings = func.least(count - free, STEPS.bit_length() - 1)  # PostgreSQL computes also the longer wait.
    wait = func.least(longest, _window() / STEPS * func.power(literal(2.0), doublings))
    return literal(now + _window()) + case((count < free, timedelta()), else_=wait)


def _window() -> timedelta:
    return timedelta(seconds=load(AuthSettings).sign_in_window)


def _digest(*parts: str) -> str:
    # Keyed, because some type their password here by mistake: what is stored cannot be searched for without the key.
    key = load(AuthSettings).jwt_secret.get_secret_value()
    return hmac.new(key.encode(), "\0".join(parts).encode(), hashlib.sha256).hexdigest()
