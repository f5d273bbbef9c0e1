"""Passwords are kept as Argon2id hashes, with the parameters that RFC 9106, section 4, recommends second."""

import asyncio
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Protocol, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerificationError

from app.auth.errors import TooBusyError

AT_ONCE = 2
"""How many passwords are hashed at a time. Each takes 64 MiB, and a core for some 50 milliseconds."""
MOST_WAITING = 50
HASHER = PasswordHasher()

ResultT = TypeVar("ResultT")


class Run(Protocol):
    """Runs work in a thread during one's turn."""

    def __call__(self, work: Callable[..., ResultT], *arguments: object) -> Awaitable[ResultT]:
        """Return the result of the work."""
        ...


class Queue:
    """Lets AT_ONCE do heavy work in threads at a time, and those who wait take turns by their lane (round robin).

    When MOST_WAITING wait, a newcomer takes the place of the last one in the longest lane, if its own is shorter: a
    client that floods the queue displaces only itself. The first in the lane of a known client takes the place of an
    unknown one in any case.
    """

    def __init__(self) -> None:
        self._running = 0
        self._lanes: dict[tuple[bool, str], deque[asyncio.Future[None]]] = {}
        """Who waits in each lane; the lane that is first has the next turn, and then goes to the end."""

    @asynccontextmanager
    async def turn(self, lane: str = "", *, known: bool = False) -> AsyncGenerator[Run]:
        """Wait for a turn, and yield a function that runs work in a thread.

        Raises:
            TooBusyError: too many are waiting.
        """
        await self._wait((known, lane))
        thread: asyncio.Future[Any] | None = None

        async def run(work: Callable[..., ResultT], *arguments: object) -> ResultT:
            nonlocal thread
            thread = asyncio.get_running_loop().run_in_executor(None, work, *arguments)
            return await asyncio.shield(thread)

        try:
            yield run
        finally:
            if thread and not thread.done():  # The request was cancelled, which its thread cannot be.
                thread.add_done_callback(self._pass_on)
            else:
                self._pass_on()

    async def _wait(self, lane: tuple[bool, str]) -> None:
        if self._running < AT_ONCE:
            self._running += 1
            return
        self._make_room(lane)
        turn = asyncio.get_running_loop().create_future()
        self._lanes.setdefault(lane, deque()).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._pass_on()
            elif turn in self._lanes.get(lane, ()):
                self._leave(lane, turn)
            raise

    def _make_room(self, lane: tuple[bool, str]) -> None:
        if sum(map(len, self._lanes.values())) < MOST_WAITING:
            return
        own = len(self._lanes.get(lane, ()))
        longest = self._longest(self._lanes)
        if longest is None or len(self._lanes[longest]) <= own + 1:
            known, _ = lane
            longest = self._longest(other for other in self._lanes if not other[0]) if known and not own else None
        if longest is None:
            raise TooBusyError
        last = self._lanes[longest][-1]
        self._leave(longest, last)
        if not last.done():
            last.set_exception(TooBusyError())

    def _longest(self, lanes: Iterable[tuple[bool, str]]) -> tuple[bool, str] | None:
        return max(lanes, key=lambda lane: len(self._lanes[lane]), default=None)

    def _leave(self, lane: tuple[bool, str], turn: asyncio.Future[None]) -> None:
        self._lanes[lane].remove(turn)
        if not self._lanes[lane]:
            del self._lanes[lane]

    def _pass_on(self, _thread: object = None) -> None:
        while self._lanes:
            lane, waiting = next(iter(self._lanes.items()))
            turn = waiting.popleft()
            del self._lanes[lane]
            if waiting:
                self._lanes[lane] = waiting
            if not turn.done():
                turn.set_result(None)
                return
        self._running -= 1


QUEUE = Queue()


async def hash_password(password: str) -> str:
    """Return what is stored of a password.

    Raises:
        TooBusyError: too many are waiting.
    """
    async with QUEUE.turn() as run:
        return await run(HASHER.hash, password)


async def is_password(password: str, password_hash: str | None) -> bool:
    """Say whether it is the password that was hashed. Where there is no hash it is not, and to say so takes as long.

    Raises:
        TooBusyError: too many are waiting.
    """
    async with QUEUE.turn() as run:
        return await run(verify, password, password_hash)


def is_outdated(password_hash: str) -> bool:
    """Say whether a hash was made with other parameters than today's."""
    return HASHER.check_needs_rehash(password_hash)


def verify(password: str, password_hash: str | None) -> bool:
    """Say what `is_password` does. It takes long: run it in a thread."""
    decoy = _nobodys_hash()  # Also where it is not needed: the first of a process has to be made.
    try:
        HASHER.verify(password_hash or decoy, password)
    except VerificationError:
        return False
    return password_hash is not None


@cache
def _nobodys_hash() -> str:
    return HASHER.hash(secrets.token_urlsafe())
