"""What was checked still holds when it is acted on: each race runs RACES times, with the interleaving forced."""

import asyncio
import os
import threading
from collections.abc import AsyncGenerator, Awaitable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Literal

import httpx
import pytest
import time_machine
from argon2 import PasswordHasher
from sqlalchemy import delete, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

from app.auth import passwords, service, users
from app.auth.config import AuthSettings
from app.auth.models import Attempts, Role, SignIn, User
from app.core.config import load
from tests.fixtures.auth import PASSWORD, MakeUser, SignedIn
from tests.integration.test_auth import ME, renew, try_password

pytestmark = [pytest.mark.real_db, pytest.mark.repeats(1000)]

RACES = int(os.environ.get("RACES", "10"))
USERS = "/api/v1/users"
OTHER = "another long password"
THIRD = "a third and longer password"
PATIENCE = 30


class Hasher(PasswordHasher):
    """Stops after hashing or verifying one password, until it is told to go on."""

    def __init__(self, time_cost: int = 1) -> None:
        super().__init__(time_cost=time_cost, memory_cost=8, parallelism=1)
        self.stops: dict[str, list[Stop]] = {}

    def stop(self, password: str, *, at: str = "verify") -> "Stop":
        """Stop the next work on `password`."""
        stop = Stop()
        self.stops.setdefault(f"{at} {password}", []).append(stop)
        return stop

    def verify(self, hash: str | bytes, password: str | bytes) -> Literal[True]:  # noqa: A002 - the library's name
        try:
            return super().verify(hash, password)
        finally:
            self.pause(f"verify {password!s}")

    def hash(self, password: str | bytes, **options: Any) -> str:
        try:
            return super().hash(password, **options)
        finally:
            self.pause(f"hash {password!s}")

    def pause(self, work: str) -> None:
        if stops := self.stops.get(work):
            stops.pop().pause()


class Stop:
    """A place where a thread waits."""

    def __init__(self) -> None:
        self.loop, self.reached, self.go_on = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def pause(self) -> None:
        """Wait, in a thread, until the test says to go on."""
        self.loop.call_soon_threadsafe(self.reached.set)
        assert self.go_on.wait(PATIENCE)

    async def wait(self) -> None:
        """Wait until a thread is there."""
        async with asyncio.timeout(PATIENCE):
            await self.reached.wait()


@pytest.fixture
def hasher(monkeypatch: pytest.MonkeyPatch) -> Hasher:
    hasher = Hasher()
    monkeypatch.setattr(passwords, "HASHER", hasher)
    return hasher


@asynccontextmanager
async def locked(engine: AsyncEngine, statement: str) -> AsyncGenerator[AsyncConnection]:
    """Hold locks in a transaction of another client for the duration of the block."""
    async with engine.connect() as connection:
        await connection.execute(text(statement))
        yield connection
        await connection.rollback()


async def waiting(connection: AsyncConnection, number: int) -> None:
    """Wait until so many wait for locks."""
    query = text(
        "SELECT count(*) FROM pg_locks WHERE NOT granted"
        " AND pid IN (SELECT pid FROM pg_stat_activity WHERE datname = current_database())"
    )
    async with asyncio.timeout(PATIENCE):
        while (await connection.scalar(query) or 0) < number:
            await asyncio.sleep(0.001)


async def change(client: httpx.AsyncClient, new: str) -> httpx.Response:
    return await client.put(f"{ME}/password", json={"current_password": PASSWORD, "new_password": new})


async def with_statuses(*requests: Awaitable[httpx.Response]) -> list[int]:
    return [response.status_code for response in await asyncio.gather(*requests)]


async def count_sign_ins(session: AsyncSession, user: User) -> int | None:
    return await session.scalar(select(func.count()).select_from(SignIn).where(SignIn.user_id == user.id))


async def reset(session: AsyncSession, user: User, hasher: Hasher) -> None:
    await session.execute(update(User).where(User.id == user.id).values(password_hash=hasher.hash(PASSWORD)))
    await session.execute(delete(SignIn).where(SignIn.user_id == user.id))
    await session.execute(delete(Attempts))
    await session.commit()


async def test_sign_in_is_verified_while_the_password_changes(
    client: httpx.AsyncClient, user: User, signed_in: SignedIn, db_session: AsyncSession, hasher: Hasher
) -> None:
    for _ in range(RACES):
        await reset(db_session, user, hasher)
        own = await signed_in(user)
        stop = hasher.stop(PASSWORD)
        late = asyncio.create_task(try_password(client, user.username))
        await stop.wait()
        changed = await change(own, OTHER)
        stop.go_on.set()

        assert (changed.status_code, (await late).status_code) == (204, 401)
        assert await count_sign_ins(db_session, user) == 0


async def test_password_changes_while_a_sign_in_succeeds(
    client: httpx.AsyncClient, user: User, signed_in: SignedIn, db_session: AsyncSession, hasher: Hasher
) -> None:
    for _ in range(RACES):
        await reset(db_session, user, hasher)
        own = await signed_in(user)
        stop = hasher.stop(OTHER, at="hash")
        late = asyncio.create_task(change(own, OTHER))
        await stop.wait()
        new = await try_password(client, user.username)
        stop.go_on.set()

        assert (new.status_code, (await late).status_code) == (200, 204)
        assert await count_sign_ins(db_session, user) == 0


async def test_of_two_changes_at_once_one_wins(
    user: User, signed_in: SignedIn, db_session: AsyncSession, hasher: Hasher
) -> None:
    for _ in range(RACES):
        await reset(db_session, user, hasher)
        first, second = await signed_in(user), await signed_in(user)
        stops = [hasher.stop(OTHER, at="hash"), hasher.stop(THIRD, at="hash")]
        both = asyncio.gather(change(first, OTHER), change(second, THIRD))
        for stop in stops:
            await stop.wait()
        for stop in stops:
            stop.go_on.set()

        statuses = [response.status_code for response in await both]
        assert sorted(statuses) == [204, 409]
        user = (await db_session.scalars(select(User).where(User.id == user.id))).one()
        assert hasher.verify(user.password_hash, OTHER if statuses[0] == 204 else THIRD)


async def test_sign_out_while_the_password_changes(
    user: User, signed_in: SignedIn, db_session: AsyncSession, hasher: Hasher
) -> None:
    for _ in range(RACES):
        await reset(db_session, user, hasher)
        own = await signed_in(user)
        stop = hasher.stop(OTHER, at="hash")
        late = asyncio.create_task(change(own, OTHER))
        await stop.wait()
        assert (await own.post("/api/v1/auth/logout")).status_code == 204
        stop.go_on.set()

        assert (await late).status_code == 409
        user = (await db_session.scalars(select(User).where(User.id == user.id))).one()
        assert hasher.verify(user.password_hash, PASSWORD)


async def test_rehash_does_not_overwrite_a_new_password(
    client: httpx.AsyncClient, user: User, signed_in: SignedIn, db_session: AsyncSession, hasher: Hasher
) -> None:
    for _ in range(RACES):
        await reset(db_session, user, Hasher(time_cost=2))
        own = await signed_in(user)
        stop = hasher.stop(PASSWORD, at="hash")
        late = asyncio.create_task(try_password(client, user.username))
        await stop.wait()
        changed = await change(own, OTHER)
        stop.go_on.set()

        assert (changed.status_code, (await late).status_code) == (204, 401)
        user = (await db_session.scalars(select(User).where(User.id == user.id))).one()
        assert hasher.verify(user.password_hash, OTHER)
        assert await count_sign_ins(db_session, user) == 0


async def test_two_rehashes_at_once_both_sign_in(
    client: httpx.AsyncClient, user: User, db_session: AsyncSession, hasher: Hasher
) -> None:
    for _ in range(RACES):
        await reset(db_session, user, Hasher(time_cost=2))
        stops = [hasher.stop(PASSWORD, at="hash"), hasher.stop(PASSWORD, at="hash")]
        both = asyncio.gather(try_password(client, user.username), try_password(client, user.username))
        for stop in stops:
            await stop.wait()
        for stop in stops:
            stop.go_on.set()

        assert [response.status_code for response in await both] == [200, 200]
        assert await count_sign_ins(db_session, user) == 2


async def test_refresh_while_the_password_changes(
    client: httpx.AsyncClient,
    user: User,
    signed_in: SignedIn,
    db_session: AsyncSession,
    hasher: Hasher,
    test_engine: AsyncEngine,
) -> None:
    """Whichever comes first, no token is left."""
    for _ in range(RACES):
        await reset(db_session, user, hasher)
        own = await signed_in(user)
        tokens = (await try_password(client, user.username)).json()
        await db_session.rollback()
        async with locked(test_engine, "SELECT FROM sign_ins FOR UPDATE") as connection:
            both = asyncio.gather(renew(client, tokens["refresh_token"]), change(own, OTHER))
            await waiting(connection, 2)

        assert (await both)[1].status_code == 204
        assert await count_sign_ins(db_session, user) == 0


@pytest.mark.parametrize("ways", [("demote", "demote"), ("delete", "delete"), ("demote", "delete")], ids="-".join)
async def test_two_owners_against_each_other(
    ways: tuple[str, str],
    make_user: MakeUser,
    signed_in: SignedIn,
    db_session: AsyncSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await against_each_other([*ways], make_user, signed_in, db_session, monkeypatch)


async def test_three_owners_in_a_circle(
    make_user: MakeUser, signed_in: SignedIn, db_session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    await against_each_other(["demote", "delete", "demote"], make_user, signed_in, db_session, monkeypatch)


async def against_each_other(
    ways: list[str],
    make_user: MakeUser,
    signed_in: SignedIn,
    db_session: AsyncSession,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Have each owner do something to the next, after all of them were let through."""
    barrier = asyncio.Barrier(len(ways))
    lock = users._lock

    async def lock_together(*arguments: Any) -> dict[Any, User]:
        async with asyncio.timeout(PATIENCE):
            await barrier.wait()
        return await lock(*arguments)

    monkeypatch.setattr(users, "_lock", lock_together)
    for _ in range(RACES):
        await db_session.execute(delete(User))
        owners = [await make_user(role=Role.OWNER) for _ in ways]
        clients = [await signed_in(owner) for owner in owners]
        victims = [f"{USERS}/{owner.id}" for owner in [*owners[1:], owners[0]]]
        acts = [
            client.delete(path) if way == "delete" else client.patch(path, json={"role": "reader"})
            for way, client, path in zip(ways, clients, victims, strict=True)
        ]

        statuses = await with_statuses(*acts)

        left = await db_session.scalar(select(func.count()).select_from(User).where(User.role == Role.OWNER))
        done = len([status for status in statuses if status < 300])
        assert {status for status in statuses if status >= 300} <= {401, 403}
        assert done >= 1
        assert left == len(ways) - done >= 1


@pytest.mark.parametrize("loss", ["demoted", "deleted", "signed out"])
async def test_an_owner_who_is_none_any_more_makes_no_account(
    loss: str, make_user: MakeUser, signed_in: SignedIn, db_session: AsyncSession, hasher: Hasher
) -> None:
    other = await signed_in(await make_user(role=Role.OWNER))
    for _ in range(RACES):
        owner = await make_user(role=Role.OWNER)
        client = await signed_in(owner)
        stop = hasher.stop(OTHER, at="hash")
        late = asyncio.create_task(client.post(USERS, json={"username": "late", "password": OTHER}))
        await stop.wait()
        if loss == "signed out":
            done = await client.post("/api/v1/auth/logout")
        elif loss == "deleted":
            done = await other.delete(f"{USERS}/{owner.id}")
        else:
            done = await other.patch(f"{USERS}/{owner.id}", json={"role": "editor"})
        stop.go_on.set()

        assert done.status_code in {200, 204}
        assert (await late).status_code == (403 if loss == "demoted" else 401)
        assert await db_session.scalar(select(User).where(User.username == "late")) is None


async def test_two_accounts_of_one_name(
    make_user: MakeUser, signed_in: SignedIn, db_session: AsyncSession, hasher: Hasher
) -> None:
    owner = await signed_in(await make_user(role=Role.OWNER))
    for number in range(RACES):
        stops = [hasher.stop(password, at="hash") for password in (OTHER, THIRD)]
        both = asyncio.gather(
            *(owner.post(USERS, json={"username": f"n{number}", "password": each}) for each in (OTHER, THIRD))
        )
        for stop in stops:
            await stop.wait()
        for stop in stops:
            stop.go_on.set()

        assert sorted(response.status_code for response in await both) == [201, 409]


async def test_an_account_is_deleted_while_it_signs_in(
    client: httpx.AsyncClient, make_user: MakeUser, signed_in: SignedIn, hasher: Hasher
) -> None:
    owner = await signed_in(await make_user(role=Role.OWNER))
    for number in range(RACES):
        user = await make_user(username=f"short-lived-{number}")
        stop = hasher.stop(PASSWORD)
        late = asyncio.create_task(try_password(client, user.username))
        await stop.wait()
        assert (await owner.delete(f"{USERS}/{user.id}")).status_code == 204
        stop.go_on.set()

        assert (await late).status_code == 401


async def test_two_first_accounts(db_session: AsyncSession, test_engine: AsyncEngine, hasher: Hasher) -> None:
    """Two replicas whose settings name different owners."""
    password_hash = hasher.hash(PASSWORD)
    make = service._make_first_account
    for _ in range(RACES):
        async with locked(test_engine, "LOCK TABLE users IN SHARE MODE") as connection:
            both = asyncio.gather(make("one", password_hash), make("two", password_hash))
            await waiting(connection, 2)
        await both

        assert len((await db_session.scalars(select(User))).all()) == 1
        await db_session.execute(delete(User))
        await db_session.commit()


async def test_the_first_account_signs_in_twice_at_once(
    client: httpx.AsyncClient, db_session: AsyncSession, hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(AuthSettings)
    first = settings.model_copy(update={"owner_username": "owner", "owner_password": settings.jwt_secret})
    monkeypatch.setattr(service, "load", {AuthSettings: first}.__getitem__)
    password = settings.jwt_secret.get_secret_value()
    for _ in range(RACES):
        stops = [hasher.stop(password, at="hash"), hasher.stop(password, at="hash")]
        both = asyncio.gather(try_password(client, "owner", password), try_password(client, "owner", password))
        for stop in stops:
            await stop.wait()
        for stop in stops:
            stop.go_on.set()

        assert [response.status_code for response in await both] == [200, 200]
        assert len((await db_session.scalars(select(User))).all()) == 1
        await db_session.execute(delete(User))
        await db_session.execute(delete(Attempts))
        await db_session.commit()


async def test_many_guesses_at_once_are_as_many_one_by_one(client: httpx.AsyncClient, user: User) -> None:
    with time_machine.travel(datetime.now(UTC), tick=False):
        responses = await asyncio.gather(*(try_password(client, user.username, f"guess {n}") for n in range(40)))

    statuses = [response.status_code for response in responses]
    assert statuses.count(401) == load(AuthSettings).sign_in_attempts
    assert statuses.count(429) == 35
