"""What a client can make the service hold in memory."""

import asyncio
from contextlib import AsyncExitStack, suppress
from unittest.mock import Mock

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from app.core.server import Connection
from tests.transport.conftest import Client

HEAD = b"GET /health HTTP/1.1\r\nHost: test\r\n"
CHUNKED = b"POST /transport/echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
ONE_MB = 1 << 20
ENDLESS = {
    "header fields": (HEAD, b"a: b\r\n"),
    "value": (HEAD + b"X-A: ", b"a"),
    "name": (HEAD, b"a"),
    "target": (b"GET /", b"a"),
    "query": (b"GET /?", b"a"),
    "trailer fields": (CHUNKED + b"0\r\n", b"a: b\r\n"),
    "trailer": (CHUNKED + b"0\r\nA: ", b"a"),
    "chunk extension": (CHUNKED + b"1;", b"a"),
    "chunk size": (CHUNKED, b"0"),
    "empty lines": (b"", b"\r\n"),
}


@pytest.mark.parametrize("kind", ENDLESS)
async def test_an_endless_head_is_refused(client: Client, kind: str) -> None:
    start, block = ENDLESS[kind]
    before = client.memory()
    async with client.connect() as (reader, writer):
        writer.write(start)
        with suppress(ConnectionError):
            for _ in range(20):
                writer.write(block * (ONE_MB // len(block)))
                await writer.drain()
        answer = b""
        with suppress(ConnectionError):
            answer = await reader.read()

    assert client.memory() < before + 20
    assert not answer or answer.startswith(b"HTTP/1.1 431 ")
    assert await client.service.answers("/health")


@pytest.mark.parametrize("kind", ENDLESS)
async def test_a_long_head_is_answered_with_431(client: Client, kind: str) -> None:
    start, block = ENDLESS[kind]

    answer = await client.ask(start + block * (40_000 // len(block)))

    assert answer.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
    assert b"\r\ncontent-type: application/problem+json\r\n" in answer
    assert b"\r\nconnection: close\r\n" in answer.lower()


@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_a_head_that_fits_is_accepted_however_it_arrives(client: Client, step: int) -> None:
    head = HEAD + b"X-A: " + b"a" * 2000 + b"\r\nConnection: close\r\n\r\n"
    async with client.connect() as (reader, writer):
        for start in range(0, len(head), step):
            writer.write(head[start : start + step])
            await asyncio.sleep(0)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")


async def test_the_longest_head(client: Client) -> None:
    head = HEAD + b"Connection: close\r\nX-A: "
    for size, status in ((32_768, 200), (32_769, 431)):
        assert await client.status(head + b"a" * (size - len(head) - 4) + b"\r\n\r\n") == status


async def test_a_hundred_header_fields(client: Client) -> None:
    for count, status in ((98, 200), (99, 431)):
        assert await client.status(HEAD + b"Connection: close\r\n" + b"a: b\r\n" * count + b"\r\n") == status


async def test_a_long_chunked_body_is_not_a_long_head(client: Client) -> None:
    chunks = b"%x\r\n%b\r\n" % (70_000, b"\r\n\r\n" * 17_500) * 3 + b"1;a=b\r\nx\r\n" * 9000

    answer = await client.ask(CHUNKED.replace(b"Host", b"Connection: close\r\nHost") + chunks + b"0\r\nA: b\r\n\r\n")

    assert b'"length":219000' in answer
    assert b'"a":"b"' not in answer, "a trailer is not a header"


class Parts:
    """A connection without a client, whose parts for the parser are counted."""

    def __init__(self) -> None:
        config = uvicorn.Config(self.app, http=Connection, interface="asgi3", lifespan="off", log_config=None)
        config.load()
        self.bodies: list[bytes] = []
        self.connection = Connection(config, ServerState(), {})
        self.transport = Mock(**{"get_extra_info.return_value": None, "is_closing.return_value": False})
        self.connection.connection_made(self.transport)
        self.parser = self.connection.parser = Mock(wraps=self.connection.parser)

    async def app(self, _: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def receive(self, *blocks: bytes) -> None:
        """Receive data in blocks, and answer the requests in it."""
        for block in blocks:
            self.connection.data_received(block)
            assert not self.connection.pipeline
            for _ in range(20):
                await asyncio.sleep(0)
        self.connection.connection_lost(None)


@pytest.mark.parametrize("size", [8, 1000, ONE_MB])
async def test_the_data_of_a_chunked_body_is_not_searched(size: int) -> None:
    """Each empty line in it cost a call of the parser."""
    parts, data, step = Parts(), b"\r\n\r\n" * (size // 4), 65_537
    request = CHUNKED + (b"%x\r\n%b\r\n" % (size, data)) * (ONE_MB // size) + b"0\r\n\r\n"

    await parts.receive(*(request[start : start + step] for start in range(0, len(request), step)))

    assert parts.bodies == [data * (ONE_MB // size)]
    assert parts.parser.feed_data.call_count < len(request) // step + 5, "one for each read, the head and the end"


async def test_no_part_goes_beyond_its_request() -> None:
    """Else a client could make the service hold any number of requests."""
    sized = CHUNKED.replace(b"Transfer-Encoding: chunked", b"Content-Length: 5")
    chunked = CHUNKED + b"4\r\n\r\n\r\n\r\n00b;a=b\r\nhello\r\nmore\r\n"
    requests = b"".join(
        [HEAD + b"\r\n", chunked + b"00\r\n\r\n", sized + b"01234", chunked + b"0;a\r\nA: b\r\n\r\n", sized + b"56789"]
    )
    single = [requests[cut : cut + 1] for cut in range(len(requests))]
    for blocks in (single, *([requests[:cut], requests[cut:]] for cut in range(1, len(requests)))):
        parts = Parts()

        await parts.receive(*blocks)

        assert parts.bodies == [b"", b"\r\n\r\nhello\r\nmore", b"01234", b"\r\n\r\nhello\r\nmore", b"56789"]


@pytest.mark.parametrize("first", [HEAD + b"\r\n", CHUNKED + b"1\r\nx\r\n0\r\n\r\n"], ids=["GET", "chunked"])
async def test_pipelined_requests_are_answered_in_order_and_in_bounded_memory(client: Client, first: bytes) -> None:
    count = 1000
    before = client.memory()
    requests = b"".join(
        b"GET /transport/path/%d HTTP/1.1\r\nHost: test\r\nX-Padding: %b\r\n\r\n" % (number, b"x" * 1000)
        for number in range(count)
    )
    async with client.connect() as (reader, writer):
        writer.write(first + requests + HEAD + b"Connection: close\r\n\r\n")
        answer = await reader.read()

    places = [answer.find(b'{"path":"%d",' % number) for number in range(count)]
    assert places == sorted(places)
    assert places[0] > 0
    assert answer.count(b"HTTP/1.1 200 OK") == count + 2
    assert client.memory() < before + 20


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_pipelined_requests_wait_outside_while_one_is_answered(client: Client, method: bytes) -> None:
    before = client.memory()
    slow = b"GET /transport/wait?seconds=3 HTTP/1.1\r\nHost: test\r\n\r\n"
    short = b"%b / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx" % method
    sent = 0
    async with AsyncExitStack() as connections:
        ends = [await connections.enter_async_context(client.connect()) for _ in range(10)]
        for _, writer in ends:
            writer.write(slow)
        with suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                while sent < 50 * ONE_MB:
                    for _, writer in ends:
                        writer.write(short * 20_000)
                        sent += len(short) * 20_000
                    await asyncio.gather(*(writer.drain() for _, writer in ends))
        assert client.memory() < before + 20
        for reader, _ in ends:
            assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
        assert client.memory() < before + 20


async def test_requests_split_between_reads_are_all_answered(client: Client) -> None:
    """Also when the empty line at the end of a head is split, so that one part completes two requests."""
    request = HEAD + b"\r\n"
    whole = request * 4 + HEAD + b"Connection: close\r\n\r\n"
    for cut in (1, 20, *range(len(request) - 5, len(request) + 5)):
        answer = await client.ask(whole[:cut], whole[cut:])
        assert answer.count(b"HTTP/1.1 200 OK") == 5, cut


async def test_a_client_that_does_not_read_is_disconnected(client: Client) -> None:
    async with client.connect() as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /transport/large HTTP/1.1\r\nHost: test\r\n\r\n")
        await asyncio.sleep(4)
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        size = 0
        with suppress(ConnectionError):
            while data := await reader.read(ONE_MB):
                size += len(data)

    assert size < 50_000_000


@pytest.mark.parametrize("end", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
async def test_a_complete_response_that_is_not_read_does_not_keep_the_connection(client: Client, end: bytes) -> None:
    """The response is complete for the application, and the server would wait for ever to send the rest."""
    head = b"GET /transport/large?size=15000000 HTTP/1.0\r\nHost: test\r\n" + end + b"\r\n"
    async with client.connect() as (reader, writer):
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(head)
        await asyncio.sleep(4)
        reader._transport.resume_reading()  # type: ignore[attr-defined]
        answer = b""
        with suppress(ConnectionError):
            answer = await reader.read()

    assert len(answer) < 15_000_000


async def test_a_client_that_reads_slowly_has_all_it_asked_for(client: Client) -> None:
    async with client.connect() as (reader, writer):
        writer.write(b"GET /transport/large?size=8000000 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        size = 0
        while data := await reader.read(300_000):
            size += len(data)
            await asyncio.sleep(0.1)

    assert size > 8_000_000
