"""How the service is served, and its graceful shutdown: all accepted requests are answered.

On SIGTERM it answers 503 at `/health/ready` and goes on serving for SHUTDOWN_DELAY seconds, while load balancers notice
and each response asks its client to close the connection. Then it refuses connections, finishes in-flight requests
within SHUTDOWN_TIMEOUT seconds, closes its pool and exits.
"""

import asyncio
import gc
import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import lru_cache, partial
from http import HTTPStatus
from socket import IPPROTO_TCP, SHUT_WR, SOL_SOCKET, socket
from types import FrameType
from typing import Any
from urllib.parse import unquote_to_bytes

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle, httptools
from uvicorn.server import ServerState
from uvicorn.supervisors import ChangeReload, Multiprocess

from app.core.errors import problem_response

LINGER = 0.25
"""For how many seconds to expect, at the end, what is on its way already: a connection, or a request on an idle one."""
MAX_DRAIN = 5.0
"""Maximum number of seconds in which to accept the connections that the kernel has queued, after SHUTDOWN_DELAY."""

DRAIN_INTERVAL = 0.02

TCP_INFO, TCPI_UNACKED = 11, 24
"""Where `tcp_info` of a listening socket has the length of its accept queue (include/uapi/linux/tcp.h)."""
SO_BINDTOIFINDEX = 62
NO_NETWORK = 2**31 - 1
"""The greatest number that a network interface could have; they are counted from 1."""

MAX_HEADERS = 100
"""Maximum number of header fields of a request, and of trailer fields: each takes more memory than its bytes."""
MAX_HOST = 1000
"""Maximum length of `Host`: checked values are cached."""
MAX_DISCARDED_BODY = 64 * 1024
"""Maximum number of bytes of an unread body that are discarded to keep the connection. With more it is closed."""
MIN_READ = 64 * 1024
"""Number of unsent bytes that a client has to read within the write timeout, unless it reads them all."""
PROBE_INTERVAL = 0.5
"""Seconds between two probes of a client that has closed its sending side while it waits for a response."""
CANCEL_DELAY = 1.0
"""Seconds in which an application learns from `receive` that a body will not be complete, before it is cancelled."""
LINGERING_SECONDS = 2.0
LINGERING_BYTES = 4 * 1024 * 1024
"""Limits of what is read and discarded after the last response, so that the client can read it first."""

SINGLE_HEADERS = (b"host", b"content-length", b"transfer-encoding")
"""Header fields that decide where a request ends, and where it goes: of several, a proxy might take another one."""
END_OF_HEAD = b"\r\n\r\n"
HOST = re.compile(rb"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~!$&'()*+,;=%-]*)(:[0-9]*)?")
ABSOLUTE_TARGET = re.compile(rb"(?i:https?)://([^/?#@]+)([/?][^#]*)?(#.*)?")
CHUNK = re.compile(rb"0*([1-9A-Fa-f][0-9A-Fa-f]*)[^\n]*\n")
"""The line before a chunk's data, unless it is the last chunk, which has none."""
METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+ ")

# What is overridden or set here, and would silently have no effect if uvicorn renamed it.
for _class, *_names in (
    (HttpToolsProtocol, "_start_asgi_task", "expect_100_continue", "flow", "handle_websocket_upgrade"),
    (HttpToolsProtocol, "on_response_complete", "shutdown", "transport"),
    (RequestResponseCycle, "chunked_encoding", "disconnected", "expected_content_length", "keep_alive", "logger"),
    (RequestResponseCycle, "more_body"),
    (FlowControl, "resume_reading"),
    (Multiprocess, "handle_hup", "handle_ttin", "handle_ttou", "terminate_all"),
):
    if _missing := {*_names} - {*dir(_class), *_class.__init__.__code__.co_names}:
        raise ImportError(f"{_class.__name__} of this version of uvicorn has no {_missing}: see app/core/server.py.")

silent = logging.Logger("silent", logging.CRITICAL + 1)

leaving = threading.Event()
"""Set from the moment that this process was told to stop."""

_lingering: set[asyncio.Task[None]] = set()
_listeners: list[socket] = []
"""The sockets on which this process alone lets clients in."""


def serve(config: uvicorn.Config, delay: float) -> int:
    """Serve until told to stop; `delay` is that of `serving_process`. Returns the exit code."""
    with config.bind_socket() as listener, suppress(KeyboardInterrupt):
        if config.should_reload:
            ChangeReload(config, target=uvicorn.Server(config).run, sockets=[listener]).run()
        elif config.workers > 1:
            supervisor = Workers(config, [listener], delay)
            supervisor.run()
            if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
                return STARTUP_FAILURE
        else:
            _listeners.append(listener)
            uvicorn.Server(config).run([listener])
    return 0


def collect_less_garbage() -> None:
    """Have Python search less often for garbage, and never in what is there by now: it costs a tenth of each request.

    Source: Python's documentation of the module gc, `freeze` and `set_threshold`.
    """
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


class Workers(Multiprocess):
    """A supervisor of processes that accept connections on the same socket, which this one closes in the end."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket], delay: float) -> None:
        super().__init__(config, sockets)
        self.delay = delay

    def handle_hup(self) -> None:
        """Do nothing: while uvicorn waits for workers that SIGHUP or SIGTTOU stops, it does not notice a SIGTERM."""

    handle_ttin = handle_ttou = handle_hup

    def terminate_all(self) -> None:
        """Have all workers leave."""
        super().terminate_all()
        until = time.monotonic() + self.delay
        while time.monotonic() < until and any(worker.process.is_alive() for worker in self.processes):
            time.sleep(0.05)
        for listener in self.sockets:
            let_nobody_in(listener)


@lru_cache(maxsize=64)
def is_host(value: bytes) -> bool:
    """Return whether a value of `Host` is valid: RFC 3986, section 3.2."""
    return len(value) <= MAX_HOST and HOST.fullmatch(value) is not None


class RefusedError(Exception):
    """A request that the parser accepts, but HTTP or a limit does not: the status and the detail of the answer."""


class Backpressure(FlowControl):
    """uvicorn's flow control, which does not resume reading while enough pipelined requests wait."""

    is_full = False

    def resume_reading(self) -> None:
        """Resume reading, unless `is_full`."""
        if not self.is_full:
            super().resume_reading()


class Output:
    """A transport that notes that something was written."""

    has_written = False

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def write(self, data: bytes) -> None:
        """Write, and note it."""
        self.has_written = True
        self.transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)


class Connection(HttpToolsProtocol):
    """A client's connection, which ends after a response, never instead of one, and if no request comes.

    uvicorn itself closes all idle connections at once when it shuts down, also if a request has just been sent. And it
    waits without a limit for the first request, and for the rest of a head.

    It bounds what a client can make the service hold: a request's head, its trailers and chunk extensions have at most
    `max_head_bytes`, pipelined requests are parsed one at a time, and a client has `write_timeout` seconds to read.
    A request whose client has disconnected is cancelled. Requests that violate RFC 9112 are refused.
    """

    patience: asyncio.TimerHandle | None = None
    probing: asyncio.TimerHandle | None = None
    watching: asyncio.TimerHandle | None = None
    task: asyncio.Task[Any] | None = None
    held, held_from = b"", 0
    """Bytes that are parsed when the current response is complete, or more have come, and where they begin."""
    body_left, is_chunked = 0, False
    """How many bytes of the body, or of the current chunk, have yet to come, and whether chunks may follow."""
    most_unsent, stalled = 0, 0
    has_refused = has_ended = has_drained = is_aborted = is_unsized = is_told = ignores_upgrade = False

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        max_head_bytes: int = 32 * 1024,
        write_timeout: float = 60,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.max_head_bytes = self.head_room = max_head_bytes
        self.write_timeout = write_timeout

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.expect_request()
        self.context = copy_context()
        self.transport = self.output = Output(transport)  # type: ignore[assignment]
        self.flow = self.backpressure = Backpressure(transport)
        self.watching = self.loop.call_later(self.write_timeout / 4, self.watch_reader)

    def data_received(self, data: bytes) -> None:
        """Parse in the connection's own context, and wait for a request of which a part has come.

        This may be called in a request's context: by `on_response_complete`, or if the request has resumed reading.
        """
        self._unset_keepalive_if_required()
        self.context.copy().run(self.parse, data)
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.patience is None and self in self.connections:
            self.expect_request()

    def is_answering(self) -> bool:
        """Return whether the last request has been received, and its response is not complete."""
        cycle = self.cycle
        return cycle is not None and not (cycle.more_body or cycle.response_complete)

    def parse(self, data: bytes) -> None:
        """Feed the parser up to the end of a request: it cannot stop by itself. Keep the rest until that is answered.

        Stop reading if the rest is long: further pipelined requests wait in the socket.
        """
        start = 0
        if self.held:
            data, start = (self.held[self.held_from :] + data, 0) if data else (self.held, self.held_from)
            self.held, self.held_from = b"", 0
        while start < len(data):
            stop = start if self.is_answering() else self.end_of_part(data, start)
            if stop == start:
                if not self.is_answering() or self.cycle.keep_alive:
                    self.held, self.held_from = data, start
                if len(self.held) - self.held_from > self.max_head_bytes:
                    self.backpressure.is_full = True
                    self.flow.pause_reading()
                return
            part = data if stop - start == len(data) else data[start:stop]
            try:
                self.parser.feed_data(part)
            except httptools.HttpParserUpgrade as upgrade:
                if not self.ignores_upgrade:
                    self.handle_websocket_upgrade()
                    return
                data, start = self.begin_without_upgrade() + data[start + upgrade.args[0] :], 0
                continue
            except httptools.HttpParserError as error:
                self.refuse(*reason(error, part))
                return
            start = stop
            if self.head_room < self.max_head_bytes and (self.head_room <= 0 or len(self.headers or ()) > MAX_HEADERS):
                self.refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The head of the request is too large.")
                return

    def end_of_part(self, data: bytes, start: int) -> int:
        """Return where the next part for the parser ends: not after its request, and at `start` if more has to come.

        A head ends with an empty line, and so do trailers. The length of a body and the sizes of its chunks are known:
        its data is not searched, and is one part for each read. The parser checks all of it.
        """
        stop, end, room = start + self.body_left, len(data), self.head_room
        if self.is_chunked:
            while stop < end and (chunk := CHUNK.match(data, stop, stop + room)):
                stop = chunk.end() + int(chunk[1], 16) + len(b"\r\n")
            # Else it is the last chunk, or not valid, unless the rest of the line has yet to come.
            self.is_chunked = stop >= end or (end - stop <= room and data.find(b"\n", stop) < 0)
        self.body_left = max(stop - end, 0)
        if stop > start or self.is_chunked:
            return min(stop, end)
        stop = data.find(END_OF_HEAD, start, start + room) + len(END_OF_HEAD)
        if stop < len(END_OF_HEAD):  # An empty line may have begun in the last bytes.
            stop = start + room if end - start > room else max(start, end + 1 - len(END_OF_HEAD))
        self.head_room -= stop - start
        return stop

    def refuse(self, status: int, detail: str) -> None:
        """Answer what is not a request of HTTP/1.1, unless a response has begun, and close the connection."""
        self.has_refused = True
        cycle = self.cycle
        self.logger.info("Refused a request from %s: %d %s", self.client, status, detail)
        if cycle is None or cycle.response_complete or not cycle.response_started:
            if cycle is not None:
                cycle.disconnected = True
            response = problem_response("", status, detail, headers={"Connection": "close"})
            headers = [*self.server_state.default_headers, *response.raw_headers]
            lines = [STATUS_LINE[status], *(b"%b: %b\r\n" % header for header in headers), b"\r\n"]
            self.transport.write(b"".join([*lines, bytes(response.body)]))
        self.transport.close()

    def expect_request(self) -> None:
        """Have the connection end, unless a request comes in time."""
        self.patience = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def stop_expecting(self) -> None:
        """Let it live."""
        if self.patience is not None:
            self.patience.cancel()
            self.patience = None

    def on_headers_complete(self) -> None:
        """Begin to answer a request: the last one of the connection, if the service is leaving."""
        self.stop_expecting()
        self.head_room = self.max_head_bytes
        self.check_head()
        if self.parser.should_upgrade():
            self.ignores_upgrade = not self._should_upgrade()
            if self.ignores_upgrade:
                return
        super().on_headers_complete()
        if leaving.is_set() and self.cycle is not None:
            self.cycle.keep_alive = False
        if not self.parser.should_upgrade():
            self.headers = []  # Trailers are discarded: RFC 9110, section 6.5.1.

    def check_head(self) -> None:
        """Check what the parser does not: RFC 9112, sections 2.3, 3.2 and 6.1; RFC 3986, section 2.5.

        Raises:
            RefusedError: the request must not be answered otherwise.
        """
        headers, fields = self.headers, dict(self.headers)
        if len(headers) > MAX_HEADERS:
            raise RefusedError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request has too many header fields.")
        if len(fields) < len(headers):
            names = [name for name, _ in headers]
            if any(names.count(name) > 1 for name in SINGLE_HEADERS):
                raise RefusedError(HTTPStatus.BAD_REQUEST, "The request repeats a header field that comes only once.")
        host, length, coding = map(fields.get, SINGLE_HEADERS)
        version = self.parser.get_http_version()
        if version != "1.1":
            if version != "1.0":
                raise RefusedError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "The service speaks HTTP/1.1.")
            if coding is not None:
                raise RefusedError(HTTPStatus.BAD_REQUEST, "HTTP/1.0 has no Transfer-Encoding.")
            host = b"" if host is None else host
            self.expect_100_continue = False  # RFC 9110, section 10.1.1.
        if host is None or not is_host(host):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "A request has exactly one Host, and a valid one.")
        if coding is not None and coding.lower() != b"chunked":
            status = HTTPStatus.NOT_IMPLEMENTED if coding.lower().endswith(b"chunked") else HTTPStatus.BAD_REQUEST
            raise RefusedError(status, "The only Transfer-Encoding is chunked.")
        self.body_left, self.is_chunked = int(length or 0), coding is not None
        if not self.url.startswith(b"/"):
            self.check_target()
        if b"%" in self.url:
            path = unquote_to_bytes(self.url.partition(b"?")[0])
            if b"\0" in path:
                raise RefusedError(HTTPStatus.BAD_REQUEST, "The path contains a null character.")
            path.decode()  # Or it is not UTF-8, and no path of the service's.

    def check_target(self) -> None:
        """Accept the other forms of a request target: RFC 9112, sections 3.2.2 to 3.2.4.

        Raises:
            RefusedError: it is none of them, or not for this service.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise RefusedError(HTTPStatus.NOT_IMPLEMENTED, "The service is not a proxy.")
        if self.url == b"*" and method == b"OPTIONS":
            return
        target = ABSOLUTE_TARGET.fullmatch(self.url)
        if target is None or not is_host(target[1]):
            raise RefusedError(HTTPStatus.BAD_REQUEST, "The request target is not valid.")
        path = target[2] or b"/"
        self.url = path if path.startswith(b"/") else b"/" + path
        self.headers[:] = [(b"host", target[1]), *(header for header in self.headers if header[0] != b"host")]

    def begin_without_upgrade(self) -> bytes:
        """Return the head again, without the upgrade that the service ignores: RFC 9110, section 7.8."""
        self.ignores_upgrade = False
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        headers = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        return b"%b %b HTTP/%b\r\n%b\r\n" % (method, self.url, version, b"".join(headers))

    def on_message_complete(self) -> None:
        """Note the end of the request."""
        self.head_room, self.body_left, self.is_chunked = self.max_head_bytes, 0, False
        if not self.ignores_upgrade:
            super().on_message_complete()
            if self.cycle is not None:
                self.cycle.more_body = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:  # type: ignore[override]
        if self.body_left or self.is_chunked or cycle.scope["http_version"] == "1.0":
            app = partial(self.answer, cycle, app)
        self.task = self.loop.create_task(cycle.run_asgi(app))  # type: ignore[arg-type]
        self.tasks.add(self.task)
        self.task.add_done_callback(self.tasks.discard)

    async def answer(
        self, cycle: RequestResponseCycle, app: ASGIApp, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Run the application, and watch it while the body has yet to come, or if no chunks may be sent."""
        if cycle.more_body or scope["http_version"] == "1.0":
            receive, send = partial(self.receive_carefully, receive), partial(self.send_carefully, cycle, send)
        await app(scope, receive, send)

    async def receive_carefully(self, receive: Receive) -> Message:
        """Note that the application knows that the client has disconnected."""
        message = await receive()
        self.is_told = message["type"] == "http.disconnect"
        return message

    async def send_carefully(self, cycle: RequestResponseCycle, send: Send, message: Message) -> None:
        """Announce that the connection closes if the body remains unread; send no chunks to a client of HTTP/1.0."""
        if message["type"] == "http.response.start":
            is_long = self.is_chunked or self.body_left > MAX_DISCARDED_BODY
            if cycle.more_body and (is_long or cycle.waiting_for_100_continue):
                cycle.keep_alive = False
            names = {name.lower() for name, _ in message["headers"]}
            self.is_unsized = cycle.scope["http_version"] == "1.0" and b"content-length" not in names
            if self.is_unsized:
                cycle.chunked_encoding = False
        elif self.is_unsized:  # It ends with the connection: RFC 9112, section 6.3.
            cycle.expected_content_length = len(message.get("body", b""))
        await send(message)

    def on_response_complete(self) -> None:
        """Go on with the pipelined requests."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self.held:
            self.backpressure.is_full = False
            self.flow.resume_reading()
            self.data_received(b"")
        if self.has_ended and not self.is_answering():
            self.transport.close()

    def resume_writing(self) -> None:
        """Note that the client reads."""
        self.has_drained = True
        super().resume_writing()

    def watch_reader(self) -> None:
        """Abort the connection if its client does not read what was sent within `write_timeout` seconds.

        So is it if nothing is sent for so long after the client has closed its sending side, in a response that has
        begun: whether the client has closed the whole connection shows only when something is sent.
        """
        unsent = self.transport.get_write_buffer_size()
        cycle, has_written, self.output.has_written = self.cycle, self.output.has_written, False
        is_silent = self.has_ended and cycle is not None and cycle.response_started and not has_written
        if not (unsent or is_silent) or self.has_drained or unsent <= self.most_unsent - MIN_READ:
            self.most_unsent, self.stalled, self.has_drained = unsent, 0, False
        else:
            self.most_unsent, self.stalled = max(unsent, self.most_unsent), self.stalled + 1
        if self.stalled > 4:
            self.is_aborted = True
            self.transport.abort()
        else:
            self.watching = self.loop.call_later(self.write_timeout / 4, self.watch_reader)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Go on if a response is awaited: the client may have closed only its sending side."""
        self.has_ended = True
        if self.scheme == "https" or not self.is_answering():
            return None
        self.probing = self.loop.call_later(PROBE_INTERVAL, self.probe)
        return True

    def probe(self) -> None:
        """Send an interim response: a client that has closed its connection resets it, another one ignores it.

        Source: RFC 9110, section 15.2: a client must be able to receive interim responses that it does not expect.
        """
        cycle = self.cycle
        if cycle is not None and not cycle.response_started and cycle.scope["http_version"] == "1.1":
            self.transport.write(STATUS_LINE[HTTPStatus.CONTINUE] + b"\r\n")
        self.probing = self.loop.call_later(PROBE_INTERVAL, self.probe)

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection to the WebSocket."""
        self.stop_timers()
        self.transport = self.output.transport
        super().handle_websocket_upgrade()

    def stop_timers(self) -> None:
        """Cancel all timers of the connection."""
        self.stop_expecting()
        for timer in (self.watching, self.probing):
            if timer is not None:
                timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection; cancel its request, unless the application is waiting to be told."""
        self.stop_timers()
        is_unread = self.has_refused or self.held or (self.cycle is not None and self.cycle.more_body)
        if exc is None and is_unread and not (self.has_ended or self.is_aborted or self.scheme == "https"):
            with suppress(OSError):  # The client has closed it.
                connection = socket(fileno=os.dup(self.transport.get_extra_info("socket").fileno()))
                task = self.loop.create_task(linger(connection))
                _lingering.add(task)
                task.add_done_callback(_lingering.discard)
        super().connection_lost(exc)
        self.held = b""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
            # An application that waits in `receive` has taken note of it before this is called.
            self.loop.call_later(CANCEL_DELAY if cycle.more_body else 0, self.cancel, cycle)

    def cancel(self, cycle: RequestResponseCycle) -> None:
        """Cancel the request's task, and with it its query."""
        knows = self.is_told or not cycle.message_event.is_set()
        if self.task is not None and not (knows or cycle.response_complete):
            cycle.logger = silent  # uvicorn logs a cancelled request as an error.
            self.task.cancel()

    def shutdown(self) -> None:
        """End when the last response is sent, or if there is nothing to answer for a moment."""
        self.loop.call_later(LINGER, super().shutdown)


def reason(error: httptools.HttpParserError, data: bytes) -> tuple[int, str]:
    """Return the status and the detail of the answer to what the parser does not accept."""
    if isinstance(error.__context__, RefusedError):
        return error.__context__.args
    if isinstance(error, httptools.HttpParserInvalidMethodError) and METHOD.match(data):
        return HTTPStatus.NOT_IMPLEMENTED, "The method is unknown."
    if "HTTP version" in str(error) or "PRI" in str(error):
        return HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "The service speaks HTTP/1.1."
    return HTTPStatus.BAD_REQUEST, "This is not a request of HTTP/1.1."


async def linger(connection: socket) -> None:
    """Close the sending side, and discard what the client sends for a moment: a reset could overtake the response.

    Source: RFC 9112, section 9.6.
    """
    left, loop = LINGERING_BYTES, asyncio.get_running_loop()
    with connection, suppress(OSError):  # A TimeoutError is one.
        connection.setblocking(False)
        connection.shutdown(SHUT_WR)
        async with asyncio.timeout(LINGERING_SECONDS):
            while left > 0 and (data := await loop.sock_recv(connection, MAX_DISCARDED_BODY)):
                left -= len(data)


@contextmanager
def serving_process(delay: float) -> Generator[None]:
    """Set this process up to serve, if it is to: with a graceful shutdown, and fewer searches for garbage.

    uvicorn hears of SIGTERM `delay` seconds later than the rest of the process. A second one changes nothing: systemd
    and `uv run` tell it to each process, and so does a supervisor to its workers.
    """
    stop = signal.getsignal(signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread() or not callable(stop):
        yield  # No server runs in this process: it may be a test.
        return
    collect_less_garbage()
    loop = asyncio.get_running_loop()

    def leave(number: int, _: FrameType | None) -> None:
        if not leaving.is_set():
            leaving.set()
            loop.call_soon_threadsafe(loop.call_later, delay, close_door, number)

    def close_door(number: int) -> None:
        for listener in _listeners:
            let_nobody_in(listener)
        drain(number, loop.time() + MAX_DRAIN)

    def drain(number: int, until: float) -> None:
        # Workers wait for their supervisor here, which closes the door: uvicorn's looks for signals twice a second.
        if loop.time() < until and any(map(may_have_clients, _listeners or shared_listeners(stop))):
            loop.call_later(DRAIN_INTERVAL, drain, number, until)
        else:
            loop.call_later(LINGER, stop, number, None)

    def stop_orphan() -> None:
        loop.remove_reader(supervisor.sentinel)
        for listener in shared_listeners(stop):
            let_nobody_in(listener)
        if not leaving.is_set():
            leaving.set()
            close_door(signal.SIGTERM)

    signal.signal(signal.SIGTERM, leave)
    supervisor: Any = multiprocessing.parent_process()
    if supervisor is not None:  # Its death can be read there: the worker must not keep the port.
        loop.add_reader(supervisor.sentinel, stop_orphan)
    try:
        yield
    finally:
        if supervisor is not None:
            loop.remove_reader(supervisor.sentinel)
        signal.signal(signal.SIGTERM, stop)
        leaving.clear()


def shared_listeners(stop: Any) -> Iterator[socket]:
    """Yield the sockets on which this worker listens, as all others do: `stop` is a method of its uvicorn.Server."""
    for server in getattr(getattr(stop, "__self__", None), "servers", ()):
        for each in server.sockets:
            with socket(fileno=os.dup(each.fileno())) as listener:
                yield listener


def may_have_clients(listener: socket) -> bool:
    """Return whether connections may be in the accept queue: it is not empty, or `let_nobody_in` has yet to be called.

    Where the kernel does not tell, as others than Linux, the answer is no.
    """
    if sys.platform != "linux":
        return False
    try:
        is_open = listener.getsockopt(SOL_SOCKET, SO_BINDTOIFINDEX) != NO_NETWORK
        queue = listener.getsockopt(IPPROTO_TCP, TCP_INFO, TCPI_UNACKED + 4)[TCPI_UNACKED:]
    except OSError:
        return False
    return is_open or any(queue)


def let_nobody_in(listener: socket) -> bool:
    """Have the kernel refuse new connections; those whose handshake has begun are still accepted.

    Closing a listening socket resets the connections that were not accepted yet, although their clients may have sent a
    request. After this, there are soon none of them: the socket listens on a network interface that does not exist.
    Returns False where the kernel does not do this, which Linux 5.7 and later do.

    Source: the Linux manual, socket(7), SO_BINDTODEVICE; this is its form that takes a number.
    """
    if sys.platform != "linux":
        return False
    try:
        listener.setsockopt(SOL_SOCKET, SO_BINDTOIFINDEX, NO_NETWORK)
    except OSError:
        return False
    return True
