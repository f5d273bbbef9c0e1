"""Guessing is slowed down, and those who do not guess are let through."""

from collections.abc import Callable, Generator
from datetime import UTC, datetime, timedelta

import httpx
import pytest
import time_machine
from fastapi import FastAPI
from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import attempts, service
from app.auth.models import Attempts, SignIn, User
from app.core.security import Client
from tests.fixtures.auth import PASSWORD, MakeUser
from tests.integration.test_auth import ME, try_password
from tests.unit.test_password_queue import busy

From = Callable[[str], httpx.AsyncClient]


@pytest.fixture(autouse=True)
def frozen_time() -> Generator[None]:
    """On a slow machine, a wait would be over before the next attempt."""
    with time_machine.travel(datetime.now(UTC), tick=False):
        yield


@pytest.fixture
async def from_address(app: FastAPI, client: httpx.AsyncClient, db_session: AsyncSession) -> From:
    """A function that returns a client with an address."""
    await client.get("/health")  # Which commits what the test has made.

    def make(address: str) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=app, client=(address, 1), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://test", trust_env=False)

    return make


async def guess(client: httpx.AsyncClient, name: str, times: int) -> list[int]:
    return [(await try_password(client, name, f"a guess {number}")).status_code for number in range(times)]


async def test_a_client_that_guesses_does_not_lock_out_others(user: User, from_address: From) -> None:
    assert await guess(from_address("192.0.2.1"), user.username, 8) == [401] * 5 + [429] * 3

    assert (await try_password(from_address("192.0.2.2"), user.username)).status_code == 200
    assert (await try_password(from_address("192.0.2.1"), user.username)).status_code == 429


async def test_addresses_of_one_ipv6_network_are_one_client(user: User, from_address: From) -> None:
    statuses = [(await guess(from_address(f"2001:db8::{number}"), user.username, 1))[0] for number in range(1, 9)]

    assert statuses == [401] * 5 + [429] * 3
    assert (await try_password(from_address("2001:db8:0:1::1"), user.username)).status_code == 200


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("", ""),
        ("unix", ""),
        ("192.0.2.1, 192.0.2.2", ""),
    ],
)
def test_what_is_a_client(address: str, network: str) -> None:
    assert Client(address).network == network


async def test_guessing_from_many_addresses_is_slowed_down(
    user: User, from_address: From, db_session: AsyncSession
) -> None:
    """Neither is the owner locked out of it: at once where they have signed in before, elsewhere after a moment."""
    home = from_address("198.51.100.1")
    assert (await try_password(home, user.username)).status_code == 200

    statuses = [(await guess(from_address(f"192.0.2.{number}"), user.username, 1))[0] for number in range(80)]

    assert statuses == [401] * 50 + [429] * 30
    assert len((await db_session.scalars(select(Attempts))).all()) <= 52
    assert (await try_password(home, user.username)).status_code == 200
    elsewhere = await try_password(from_address("203.0.113.1"), user.username)
    assert elsewhere.status_code == 429
    wait = int(elsewhere.headers["retry-after"])
    assert 1 <= wait <= 15
    with time_machine.travel(datetime.now(UTC) + timedelta(seconds=wait), tick=False):
        assert (await try_password(from_address("203.0.113.1"), user.username)).status_code == 200


async def test_signing_in_from_many_addresses_is_no_guessing(user: User, from_address: From) -> None:
    for number in range(60):
        assert (await try_password(from_address(f"192.0.2.{number}"), user.username)).status_code == 200


async def test_a_stolen_token_does_not_guess_from_many_addresses(
    user: User, from_address: From, authed_client: httpx.AsyncClient
) -> None:
    change = {"current_password": "a guess", "new_password": "another long password"}
    statuses = []
    for number in range(60):
        thief = from_address(f"192.0.2.{number}")
        thief.headers["Authorization"] = authed_client.headers["Authorization"]
        statuses.append((await thief.put(f"{ME}/password", json=change)).status_code)

    assert statuses == [422] * 50 + [429] * 10


async def test_a_new_password_that_is_refused_is_no_guess(authed_client: httpx.AsyncClient) -> None:
    weak = {"current_password": PASSWORD, "new_password": "password1234"}
    assert {(await authed_client.put(f"{ME}/password", json=weak)).status_code for _ in range(8)} == {422}

    good = {"current_password": PASSWORD, "new_password": "another long password"}
    assert (await authed_client.put(f"{ME}/password", json=good)).status_code == 204


async def test_being_turned_away_is_no_guess(
    client: httpx.AsyncClient, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with busy(monkeypatch, lanes=["127.0.0.1"] * 5):
        assert await guess(client, user.username, 12) == [503] * 12

    assert (await try_password(client, user.username)).status_code == 200


async def test_counts_are_kept_in_slots(db_session: AsyncSession, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "SLOT_DIGITS", 1)
    for number in range(60):
        guessing = attempts.Guess(f"name {number}", f"192.0.2.{number}")
        try:
            await attempts.count(guessing)
        except attempts.TooManyAttemptsError:
            continue

    assert len((await db_session.scalars(select(Attempts))).all()) <= 2 * 16


async def test_each_further_attempt_waits_twice_as_long_up_to_the_window(client: httpx.AsyncClient, user: User) -> None:
    now, waits = datetime.now(UTC), list[int]()
    while len(waits) < 10:
        with time_machine.travel(now, tick=False):
            response = await try_password(client, user.username, "a guess")
        if response.status_code == 429:
            waits.append(int(response.headers["retry-after"]))
            now += timedelta(seconds=waits[-1])

    assert waits == [15, 29, 57, 113, 225, 450, 900, 900, 900, 900]


@pytest.mark.parametrize("further", [1, 1000, 2_000_000_000])
async def test_a_wait_stays_the_same_however_often_a_name_was_tried(
    user: User, from_address: From, db_session: AsyncSession, further: int
) -> None:
    """PostgreSQL computes the doubled wait also where the longest one counts: it must not overflow."""
    client = from_address("192.0.2.1")
    await guess(client, user.username, 5)
    past = datetime.now(UTC) + timedelta(seconds=1)
    await db_session.execute(update(Attempts).values(count=Attempts.count + further, until=past))
    await db_session.commit()

    assert await guess(client, user.username, 2) == [401, 429]


async def test_an_account_has_a_bounded_number_of_sign_ins(
    user: User, client: httpx.AsyncClient, db_session: AsyncSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SIGN_INS", 3)
    tokens = []
    for seconds in range(5):
        with time_machine.travel(datetime.now(UTC) + timedelta(seconds=seconds), tick=False):
            tokens.append((await try_password(client, user.username)).json()["access_token"])

    statuses = [(await client.get(ME, headers={"Authorization": f"Bearer {token}"})).status_code for token in tokens]

    assert statuses == [401, 401, 200, 200, 200]
    assert len((await db_session.scalars(select(SignIn))).all()) == 3


async def test_many_accounts_share_no_state(make_user: MakeUser, from_address: From, client: httpx.AsyncClient) -> None:
    first, second = await make_user(), await make_user()
    await client.get("/health")
    address = from_address("192.0.2.1")

    assert await guess(address, first.username, 6) == [401] * 5 + [429]
    assert (await try_password(address, second.username)).status_code == 200
