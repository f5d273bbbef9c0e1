"""The database goes away at every moment of a request, and nobody is told of a success that did not happen."""

import asyncio
import random
from collections.abc import Callable
from itertools import count

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.faults.ledger import STATEMENT_BOUND, TIME_OUTS, Ledger, keeping_ledger
from tests.faults.proxy import Fault, Proxy, Stage
from tests.harness.isolation import Isolation

pytestmark = pytest.mark.real_db

REQUESTS = 5_000
AT_ONCE = 20
RARELY = 0.002
"""How often each fault happens at each stage."""


def assert_unavailable(response: httpx.Response) -> None:
    assert response.status_code == 503, response.text
    assert response.headers["retry-after"]
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.FREEZE, Fault.KILL])
@pytest.mark.parametrize("stage", [Stage.BEGIN, Stage.QUERY, Stage.COMMIT])
async def test_what_was_not_committed_is_not_acknowledged(
    ledger: Ledger, proxy: Proxy, stage: Stage, fault: Fault
) -> None:
    await ledger.enter(1)
    proxy.once(stage, fault)

    async with asyncio.timeout(STATEMENT_BOUND + 1):
        assert_unavailable(await ledger.enter(2))

    assert proxy.happened == {(stage, fault): 1}
    assert await ledger.recovers(3)
    assert await ledger.numbers() == {1, 3}


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.FREEZE, Fault.KILL])
async def test_what_nobody_knows_to_be_committed_is_not_acknowledged(
    ledger: Ledger, proxy: Proxy, fault: Fault
) -> None:
    await ledger.enter(1)
    proxy.once(Stage.COMMITTING, fault)

    response = await ledger.enter(2)

    if fault is not Fault.KILL:  # The answer of a server that is ended may still arrive.
        assert_unavailable(response)
    assert proxy.happened == {(Stage.COMMITTING, fault): 1}
    assert await ledger.recovers(3)
    assert await ledger.numbers() == {1, 2, 3}


@pytest.mark.parametrize("fault", [Fault.CUT, Fault.FREEZE, Fault.KILL])
async def test_what_is_committed_is_acknowledged_whatever_becomes_of_the_connection(
    ledger: Ledger, proxy: Proxy, fault: Fault
) -> None:
    await ledger.enter(1)
    proxy.once(Stage.COMMITTED, fault)

    assert (await ledger.enter(2)).status_code == 201
    assert proxy.happened == {(Stage.COMMITTED, fault): 1}

    if fault is Fault.FREEZE:  # Nobody can know, until the next request has waited for an answer.
        assert_unavailable(await ledger.enter(4))
    assert await ledger.recovers(3)
    assert await ledger.numbers() == {1, 2, 3}


@pytest.mark.parametrize("stage", Stage)
async def test_a_slow_network_does_no_harm(ledger: Ledger, proxy: Proxy, stage: Stage) -> None:
    proxy.once(stage, Fault.DELAY)

    assert (await ledger.enter(1)).status_code == 201
    assert proxy.happened == {(stage, Fault.DELAY): 1}


async def test_connections_that_died_while_nobody_used_them_cost_no_request(ledger: Ledger, proxy: Proxy) -> None:
    assert {response.status_code for response in await asyncio.gather(*map(ledger.enter, range(10)))} == {201}
    await proxy.shut()
    await proxy.open()
    await asyncio.sleep(0.1)

    assert [(await ledger.enter(number)).status_code for number in range(10, 20)] == [201] * 10


async def test_of_connections_that_lead_nowhere_only_the_first_costs_a_request(ledger: Ledger, proxy: Proxy) -> None:
    assert {response.status_code for response in await asyncio.gather(*map(ledger.enter, range(10)))} == {201}
    proxy.freeze()

    assert_unavailable(await ledger.enter(10))
    assert [(await ledger.enter(number)).status_code for number in range(11, 20)] == [201] * 9


async def test_readiness_answers_in_time_when_nobody_answers_it(ledger: Ledger, proxy: Proxy) -> None:
    assert (await ledger.client.get("/health/ready")).status_code == 200
    proxy.freeze()

    async with asyncio.timeout(TIME_OUTS["readiness_timeout"] + 1):
        assert_unavailable(await ledger.client.get("/health/ready"))


async def test_it_stops_in_time_when_nobody_answers_it(
    proxy: Proxy, isolation: Isolation, test_engine: AsyncEngine
) -> None:
    async with asyncio.timeout(8), keeping_ledger(proxy.url(isolation.database), test_engine) as ledger:
        assert {response.status_code for response in await asyncio.gather(*map(ledger.enter, range(10)))} == {201}
        proxy.freeze()


async def test_a_database_that_is_away_is_said_to_be_away(ledger: Ledger, proxy: Proxy) -> None:
    await ledger.enter(1)
    await proxy.shut()

    assert_unavailable(await ledger.enter(2))
    assert_unavailable(await ledger.client.get("/ledger/1"))
    assert_unavailable(await ledger.client.get("/health/ready"))
    assert (await ledger.client.get("/health")).status_code == 200

    await proxy.open()
    assert await ledger.recovers(3)
    assert (await ledger.client.get("/health/ready")).status_code == 200


async def test_a_pool_that_is_empty_says_so_in_time_and_fills_again(ledger: Ledger, proxy: Proxy) -> None:
    """Every connection hangs in a query; whoever comes then waits for as long as DB_POOL_TIMEOUT says."""
    proxy.choose = lambda stage: Fault.FREEZE if stage is Stage.QUERY else None
    responses = await asyncio.gather(*map(ledger.enter, range(40)))
    proxy.choose = lambda _: None

    for response in responses:
        assert_unavailable(response)
    assert await ledger.recovers(100)
    assert await ledger.numbers() == {100}


async def test_no_acknowledged_write_is_lost(
    ledger: Ledger, proxy: Proxy, record_property: Callable[[str, object], None]
) -> None:
    """Faults of every kind, at every stage, under load: what was acknowledged is compared with what is stored."""
    chance = random.Random(4711)  # noqa: S311 - no secret
    faults = [Fault.CUT, Fault.KILL, Fault.DELAY, Fault.FREEZE]

    def choose(_: Stage) -> Fault | None:
        return next((fault for fault in faults if chance.random() < RARELY), None)

    numbers, statuses = count(), dict[int, int]()

    async def work() -> None:
        while (number := next(numbers)) < REQUESTS:
            statuses[number] = (await ledger.enter(number)).status_code

    proxy.choose = choose
    async with asyncio.TaskGroup() as workers:
        for _ in range(AT_ONCE):
            workers.create_task(work())
    proxy.choose = lambda _: None

    assert await ledger.recovers(REQUESTS)
    stored = await ledger.numbers()
    acknowledged = {number for number, status in statuses.items() if status == 201}
    for name, value in {"requests": len(statuses), "acknowledged": len(acknowledged), "stored": len(stored)}.items():
        record_property(name, value)
    assert acknowledged - stored == set(), "acknowledged, and lost"
    assert {*statuses.values()} == {201, 503}
    assert {*proxy.happened} == {(stage, fault) for stage in Stage for fault in faults}
