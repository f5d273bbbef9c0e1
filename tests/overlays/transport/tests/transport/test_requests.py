"""The rules of RFC 9110 and 9112, and what clients really send."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import httpx
import pytest

from app.core.config import Settings
from app.main import create_app
from tests.harness.live import serving
from tests.transport.conftest import Client

GET = b"GET /health HTTP/1.1\r\n"
POST = b"POST /transport/echo HTTP/1.1\r\nHost: test\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"Connection: close\r\n\r\n"


def body(answer: bytes) -> Any:
    head, _, text = answer.partition(b"\r\n\r\n")
    return json.loads(text), head.decode().lower()


REFUSED = {
    "no Host": (GET + b"\r\n", 400),
    "two Hosts": (GET + b"Host: a\r\nHost: b\r\n\r\n", 400),
    "the same Host twice": (GET + b"Host: a\r\nHost: a\r\n\r\n", 400),
    "two Hosts in HTTP/1.0": (b"GET /health HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "a bad Host": (GET + b"Host: a/b\r\n\r\n", 400),
    "a Host with user": (GET + b"Host: u@a\r\n\r\n", 400),
    "Hosts in one field": (GET + b"Host: a, b\r\n\r\n", 400),
    "obs-fold": (GET + b"Host: a\r\nA: b\r\n c\r\n\r\n", 400),
    "space before colon": (GET + b"Host : a\r\n\r\n", 400),
    "space before the first field": (GET + b" Host: a\r\n\r\n", 400),
    "bare CR": (GET + b"Host: a\r\nA: b\rc\r\n\r\n", 400),
    "bare LF": (b"GET /health HTTP/1.1\nHost: a\n\n", 400),
    "NUL in a field": (GET + b"Host: a\r\nA: b\0c\r\n\r\n", 400),
    "NUL in the target": (b"GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "encoded NUL": (b"GET /a%00b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a path that is not UTF-8": (b"GET /a%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "raw UTF-8 in the target": ("GET /é HTTP/1.1\r\nHost: a\r\n\r\n".encode(), 400),
    "no absolute path": (b"GET health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "asterisk for GET": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "another scheme": (b"GET ftp://a/health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "a user in the target": (b"GET http://u:p@a/health HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "Transfer-Encoding and Content-Length": (POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "Content-Length and Transfer-Encoding": (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", 400),
    "two Content-Lengths": (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
    "a list of Content-Lengths": (POST + b"Content-Length: 1, 1\r\n\r\na", 400),
    "a negative Content-Length": (POST + b"Content-Length: -1\r\n\r\n", 400),
    "a Content-Length with a sign": (POST + b"Content-Length: +1\r\n\r\na", 400),
    "a huge Content-Length": (POST + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
    "Transfer-Encoding in HTTP/1.0": (CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"0\r\n\r\n", 400),
    "not chunked": (POST + b"Transfer-Encoding: gzip\r\n\r\n", 400),
    "chunked and more": (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "chunked and more in two fields": (POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    "more after chunked in two fields": (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
    "chunked in two fields": (POST + b"Transfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", 400),
    "no Transfer-Encoding": (POST + b"Transfer-Encoding:\r\n\r\n", 400),
    "a different Content-Length": (POST + b"Content-Length: 1\r\ncontent-length: 2\r\n\r\na", 400),
    "a negative chunk size": (CHUNKED + b"-1\r\n", 400),
    "a hexadecimal prefix": (CHUNKED + b"0x1\r\na\r\n0\r\n\r\n", 400),
    "a huge chunk size": (CHUNKED + b"f" * 20 + b"\r\n", 400),
    "a chunk that is too long": (CHUNKED + b"1\r\nab\r\n0\r\n\r\n", 400),
    "bare LF after the chunk size": (CHUNKED + b"1\na\r\n0\r\n\r\n", 400),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", 501),
    "unknown method": (b"BREW /health HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "lower case": (b"get /health HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "HTTP/0.9": (b"GET /health\r\n\r\n", 505),
    "HTTP/2.0": (b"GET /health HTTP/2.0\r\nHost: a\r\n\r\n", 505),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "HTTP/3.0": (b"GET /health HTTP/3.0\r\nHost: a\r\n\r\n", 505),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
}


@pytest.mark.parametrize("kind", REFUSED)
async def test_a_request_against_the_rules_is_refused(client: Client, kind: str) -> None:
    request, status = REFUSED[kind]

    answer = await client.ask(request)

    problem, head = body(answer)
    assert head.startswith(f"http/1.1 {status} ")
    assert "\r\nconnection: close" in head
    assert "\r\ncontent-type: application/problem+json" in head
    assert problem["status"] == status


ACCEPTED = {
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n" + END, 204),
    "no Host in HTTP/1.0": (b"GET /health HTTP/1.0\r\n\r\n", 200),
    "an empty Host": (GET + b"Host:\r\n" + END, 200),
    "IPv6": (GET + b"Host: [::1]:8000\r\n" + END, 200),
    "an underscore": (GET + b"Host: my_service:8000\r\n" + END, 200),
    "an empty line before": (b"\r\n" + GET + b"Host: a\r\n" + END, 200),
    "TRACE": (b"TRACE /health HTTP/1.1\r\nHost: a\r\n" + END, 405),
    "GET with a body": (GET + b"Host: a\r\nContent-Length: 3\r\n" + END + b"abc", 200),
    "Expect of something else": (GET + b"Host: a\r\nExpect: the-unexpected\r\n" + END, 200),
    "TE": (GET + b"Host: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n", 200),
}


@pytest.mark.parametrize("kind", ACCEPTED)
async def test_an_unusual_request_is_answered(client: Client, kind: str) -> None:
    request, status = ACCEPTED[kind]

    assert await client.status(request) == status


async def test_options_for_the_service_below_a_path_prefix(settings: Settings) -> None:
    async with serving(create_app(settings.model_copy(update={"root_path": "/billing"}))) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n" + END)
        answer = await reader.read()
        writer.close()

    assert answer.startswith(b"HTTP/1.1 204 ")


async def test_a_page_of_another_origin_can_read_what_its_answer_is_about(settings: Settings) -> None:
    origin = "https://shop.example"
    app = create_app(settings.model_copy(update={"cors_origins": (origin,)}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as browser:
        response = await browser.get("/health", headers={"Origin": origin})

    assert response.headers["access-control-expose-headers"] == "*"
    assert "access-control-allow-credentials" not in response.headers  # With which browsers do not take the asterisk.


@pytest.mark.parametrize(
    "target", [b"http://other:80/transport/path/a%20b?c=d", b"HTTP://other:80/transport/path/a%20b?c=d#"]
)
async def test_the_host_of_an_absolute_target_counts(client: Client, target: bytes) -> None:
    answer = await client.ask(b"GET %b HTTP/1.1\r\nHost: test\r\n" % target + END)

    assert body(answer)[0] == {"path": "a b", "query": "c=d", "host": "other:80"}


async def test_an_absolute_target_without_a_path(client: Client) -> None:
    assert await client.status(b"GET http://a HTTP/1.1\r\nHost: a\r\n" + END) == 404
    assert await client.status(b"GET http://a?b=c HTTP/1.1\r\nHost: a\r\n" + END) == 404


@pytest.mark.parametrize("framing", ["length", "chunked", "apart"])
async def test_a_request_with_an_upgrade_that_is_ignored_keeps_its_body(client: Client, framing: str) -> None:
    """As Java's HttpClient sends it, and curl with --http2."""
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAAAAMAAAAA\r\n"
    sized = POST + upgrade + b"Content-Length: 5\r\n\r\n"
    last = POST + b"Content-Length: 2\r\n" + END + b"ab"
    if framing == "chunked":
        parts = [POST + upgrade + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + last]
    else:
        parts = [sized + b"hello" + last] if framing == "length" else [sized, b"hello", last]

    answer = await client.ask(*parts)

    assert answer.count(b"HTTP/1.1 200 OK") == 2
    assert b'"length":5' in answer
    assert b'"length":2' in answer
    assert b'"upgrade":"h2c"' not in answer


@pytest.mark.parametrize("path", ["/health", "/health/ready", "/openapi.json", "/transport/path/x"])
async def test_head_is_get_without_the_body(client: Client, path: str) -> None:
    def ask(method: str) -> bytes:
        return f"{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()

    async with client.connect() as (reader, writer):
        writer.write(ask("HEAD") + ask("GET") + ask("HEAD"))
        heads = [await reader.readuntil(b"\r\n\r\n")]
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        length = int(heads[1].lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        heads.append(await reader.readuntil(b"\r\n\r\n"))

    for head in heads:
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-length: %d\r\n" % length in head.lower()


async def test_head_of_what_cannot_be_read(client: Client) -> None:
    answer = await client.ask(b"HEAD /transport/echo HTTP/1.1\r\nHost: a\r\n" + END)

    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nallow: POST\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_a_body_is_asked_for_only_if_it_is_wanted(client: Client) -> None:
    async with client.connect() as (reader, writer):
        writer.write(POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert (await reader.readline()) == b"HTTP/1.1 200 OK\r\n"
    unread = POST.replace(b"/echo", b"/unread") + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    answer = await client.ask(unread)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nconnection: close\r\n" in answer
    old = POST.replace(b"HTTP/1.1", b"HTTP/1.0") + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    assert (await client.ask(old, b"hello")).startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("path", [b"/echo", b"/unread"])
@pytest.mark.parametrize("framing", [b"Content-Length: 50000000", b"Transfer-Encoding: chunked"])
async def test_a_body_that_is_not_wanted_is_not_read_to_its_end(client: Client, path: bytes, framing: bytes) -> None:
    before = client.memory()
    chunk = b"%x\r\n%b\r\n" % (100_000, b"x" * 100_000) if b"chunked" in framing else b"x" * 100_000
    sent = 0
    async with client.connect() as (reader, writer):
        writer.write(POST.replace(b"/echo", path) + framing + b"\r\n\r\n")
        for _ in range(20):
            writer.write(chunk)
        head = await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            while sent < 50_000_000:
                writer.write(chunk)
                sent += len(chunk)
                await writer.drain()

    assert head.startswith(b"HTTP/1.1 413 " if path == b"/echo" else b"HTTP/1.1 200 ")
    assert b"\r\nconnection: close" in head.lower()
    assert sent < 30_000_000
    assert client.memory() < before + 20


async def test_a_client_that_sends_all_before_it_reads_gets_a_413(client: Client) -> None:
    """It would be reset, and lose the answer, if the service closed the connection at once: RFC 9112, section 9.6."""
    async with client.connect() as (reader, writer):
        writer.write(POST + b"Content-Length: 3000000\r\n\r\n")
        for _ in range(30):
            writer.write(b"x" * 100_000)
            await writer.drain()
            await asyncio.sleep(0.01)
        assert (await reader.readline()).startswith(b"HTTP/1.1 413 ")


async def test_a_short_body_that_is_not_read_does_not_end_the_connection(client: Client) -> None:
    unread = POST.replace(b"/echo", b"/unread") + b"Content-Length: 5\r\n\r\n"

    answer = await client.ask(unread, b"hello", GET + b"Host: a\r\n" + END)

    assert answer.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [("declared", 1_900_000, 200), ("declared", 2_100_000, 413), ("short", 50, 200), ("short", 150, 413)],
)
async def test_a_route_declares_how_long_its_body_may_be(client: Client, path: str, size: int, status: int) -> None:
    text = json.dumps({"text": "x" * size}).encode()
    head = f"POST /transport/{path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n".encode()

    assert await client.status(head + b"Content-Length: %d\r\n" % len(text) + END + text) == status


async def test_a_response_to_http_1_0_has_no_chunks(client: Client) -> None:
    answer = await client.ask(b"GET /transport/large?size=100000 HTTP/1.0\r\n\r\n")

    head, _, text = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert text == b"x" * 100_000


async def test_nonsense_behind_a_good_request_does_not_disturb_its_answer(client: Client) -> None:
    slow = b"GET /transport/wait?seconds=0.3 HTTP/1.1\r\nHost: a\r\n\r\n"

    for answer in (await client.ask(slow + b"nonsense\r\n\r\n"), await client.ask(slow[:-2], b"\r\nnonsense \r\n\r\n")):
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b'"waited"' in answer


@pytest.mark.parametrize("how", ["pipelined", "after a read that was paused"])
async def test_a_request_has_not_the_context_of_the_one_before(client: Client, how: str) -> None:
    """Nor has the answer to what is not a request: its request id would be that of another request."""
    head = b"POST /transport/context?seconds=0.01 HTTP/1.1\r\nHost: a\r\nX-Request-ID: first\r\n"
    length = 1 if how == "pipelined" else 900_000
    request = head + b"Content-Length: %d\r\n\r\n" % length + b"x" * length
    bad = b"GET / HTTP/1.1\r\n\r\n"

    answers = [await client.ask(request * 3 + bad)] if how == "pipelined" else []
    async with client.connect() as (reader, writer):
        for part in () if answers else (request, request, request, bad):
            writer.write(part)
            head = await reader.readuntil(b"\r\n\r\n")
            answers += head, await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r")[0]))
    answer = b"".join(answers)

    assert answer.count(b'"nothing"') == 3
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2])["request_id"] is None
    assert answer.count(b"HTTP/1.1 400 ") == 1


async def test_a_body_that_breaks_after_the_response_has_begun(client: Client) -> None:
    head = b"GET /transport/large?size=100000 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

    answer = await client.ask(head, b"nonsense\r\n")

    assert answer.count(b"HTTP/1.1 ") == 1


async def test_the_websocket_handshake_is_left_to_the_websocket(client: Client) -> None:
    head = b"GET /transport/none HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    keys = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

    assert await client.status(head + keys) == 403
