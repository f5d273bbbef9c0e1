"""A load generator: it sends the next request on each connection as soon as the answer to the last one is there."""

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import cast

LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
BEGIN = re.compile(rb"HTTP/1\.1 2\d\d ")


@dataclass(frozen=True)
class Result:
    """How a server did."""

    seconds: float
    latencies: list[float]
    """Of each request, sorted, in seconds."""

    @property
    def throughput(self) -> float:
        """Requests a second."""
        return len(self.latencies) / self.seconds

    @property
    def p99(self) -> float:
        """The latency in seconds that 99 of 100 requests keep."""
        return self.latencies[len(self.latencies) * 99 // 100]


class Connection(asyncio.Protocol):
    """One connection that is kept open."""

    def __init__(self, request: Callable[[], bytes], is_over: Callable[[int], bool]) -> None:
        self._request = request
        self._is_over = is_over
        self._received = b""
        self.latencies: list[float] = []
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Go on when an answer is complete."""
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        found = LENGTH.search(head)
        if not separator or found is None or len(body) < int(found[1]):
            return
        if not BEGIN.match(head):
            self._end(RuntimeError(self._received.decode()))
            return
        self.latencies.append(perf_counter() - self._sent)
        self._received = b""
        if self._is_over(len(self.latencies)):
            self._end(None)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Complain if this was not meant to happen."""
        self._end(exc or ConnectionError("the server has closed a connection"))

    def _send(self) -> None:
        self._sent = perf_counter()
        self._transport.write(self._request())

    def _end(self, error: Exception | None) -> None:
        self._transport.close()
        if not self.over.done():
            self.over.set_result(None) if error is None else self.over.set_exception(error)


async def put_load_on(
    port: int, request: Callable[[], bytes], *, connections: int, seconds: float = 0, requests: int = 0
) -> Result:
    """Ask a server on this machine for some seconds, or a number of requests.

    Raises:
        RuntimeError: an answer was not a success.
        OSError: a connection failed.
    """
    loop = asyncio.get_running_loop()
    begin = perf_counter()

    def is_over(answered: int) -> bool:
        return answered >= requests / connections if requests else perf_counter() - begin >= seconds

    clients = [
        (await loop.create_connection(lambda: Connection(request, is_over), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.over for client in clients))
    took = perf_counter() - begin
    return Result(took, sorted(latency for client in clients for latency in client.latencies))
