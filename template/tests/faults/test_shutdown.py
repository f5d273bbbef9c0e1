"""The service is told to stop under load: everybody who was let in gets an answer."""

import asyncio
import signal
from collections import Counter

import httpx
import pytest

from tests.faults.processes import Service, started
from tests.faults.proxy import Fault, Proxy
from tests.harness.isolation import Isolation

pytestmark = pytest.mark.real_db

CLIENTS = 8
GRACE = 20


class Load:
    """Clients that ask all the time, until nobody lets them in any more."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.answers: Counter[int] = Counter()
        self.lost: list[BaseException] = []

    async def ask(self, *, keeps_connection: bool) -> None:
        """Ask until the connection is refused: on one connection as long as it is kept, or on a new one each time."""
        limits = httpx.Limits() if keeps_connection else httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=self.url, limits=limits, trust_env=False, timeout=GRACE) as client:
            while True:
                try:
                    self.answers[(await client.get("/health/ready")).status_code] += 1
                except httpx.ConnectError:  # Not let in: this request was never accepted.
                    return
                except httpx.HTTPError as error:
                    self.lost.append(error)


async def stop_under_load(service: Service, *, everybody: bool) -> tuple[Load, int, list[int]]:
    """Tell the service to stop while clients ask. Returns how they fared, its exit code, and whether it was ready."""
    load = Load(service.url)
    said: list[int] = []
    async with asyncio.TaskGroup() as clients, httpx.AsyncClient(base_url=service.url, trust_env=False) as observer:
        for number in range(CLIENTS):
            clients.create_task(load.ask(keeps_connection=number % 2 == 0))
        async with asyncio.timeout(GRACE):  # Until all are at it, however slow the machine is.
            while load.answers[200] <= 10 * CLIENTS:
                await asyncio.sleep(0.01)
        await service.tell(signal.SIGTERM, everybody=everybody)
        async with asyncio.timeout(GRACE):
            while not said or said[-1] == 200:
                said.append((await observer.get("/health/ready")).status_code)
            said.append((await observer.get("/health")).status_code)
            code = await service.process.wait()
    return load, code, said


@pytest.mark.parametrize(("workers", "everybody"), [(1, False), (4, False), (4, True)])
async def test_nobody_is_dropped(workers: int, everybody: bool, isolation: Isolation) -> None:
    url = isolation.databases.url(isolation.database).render_as_string(hide_password=False)
    async with started(database_url=url, workers=workers, shutdown_delay=1) as service:
        await service.wait_until_ready()
        load, code, said = await stop_under_load(service, everybody=everybody)

    assert load.lost == []
    assert load.answers[200] > 10
    assert {*load.answers} == {200, 503}
    assert said[-2:] == [503, 200], "it is to say that it leaves, and to go on serving"
    assert code == 0


async def test_what_takes_long_is_finished(isolation: Isolation, proxy: Proxy) -> None:
    url = proxy.url(isolation.database).render_as_string(hide_password=False)
    async with started(database_url=url, readiness_timeout=10) as service:
        await service.wait_until_ready()
        proxy.delay = 1.5
        proxy.choose = lambda _: Fault.DELAY
        async with httpx.AsyncClient(base_url=service.url, trust_env=False, timeout=GRACE) as client:
            slow = asyncio.create_task(client.get("/health/ready"))
            await asyncio.sleep(0.5)
            service.process.send_signal(signal.SIGTERM)
            response = await slow
        code = await service.process.wait()

    assert response.status_code == 200
    assert response.headers["connection"] == "close"
    assert code == 0
