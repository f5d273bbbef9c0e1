"""Passwords are kept as Argon2id hashes, with the parameters that RFC 9106, section 4, recommends second."""

import asyncio
import secrets
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from app.auth.errors import TooBusyError

AT_ONCE = 2
"""How many passwords are hashed at a time. Each takes 64 MiB, and a core for some 50 milliseconds."""
MOST_WAITING = 50
HASHER = PasswordHasher()

ResultT = TypeVar("ResultT")


class Queue:
    """Lets a few at a time do heavy work in threads, and turns away who would have to wait long."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._inside = 0

    async def run(self, work: Callable[..., ResultT], *arguments: object) -> ResultT:
        """Run `work` when it is its turn.

        Raises:
            TooBusyError: too many are waiting.
        """
        if self._inside >= AT_ONCE + MOST_WAITING:
            raise TooBusyError
        self._inside += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(work, *arguments)
        finally:
            self._inside -= 1


QUEUE = Queue()


async def hash_password(password: str) -> str:
    """Return what is stored of a password.

    Raises:
        TooBusyError: too many are waiting.
    """
    return await QUEUE.run(HASHER.hash, password)


async def is_password(password: str, password_hash: str | None) -> bool:
    """Say whether it is the password that was hashed. Where there is no hash it is not, and to say so takes as long.

    Raises:
        TooBusyError: too many are waiting.
    """
    return await QUEUE.run(_verify, password, password_hash)


def is_outdated(password_hash: str) -> bool:
    """Say whether a hash was made with other parameters than today's."""
    return HASHER.check_needs_rehash(password_hash)


def _verify(password: str, password_hash: str | None) -> bool:
    try:
        HASHER.verify(password_hash or _nobodys_hash(), password)
    except VerificationError:
        return False
    return password_hash is not None


@cache
def _nobodys_hash() -> str:
    return HASHER.hash(secrets.token_urlsafe())
