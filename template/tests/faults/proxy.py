"""A proxy between the service and PostgreSQL that understands enough to let a connection fail at a chosen moment.

Source: PostgreSQL's manual, "Frontend/Backend Protocol" and "Message Formats". Both sides send messages of a letter, a
length and that many bytes; only the first one of a connection has no letter.
"""

import asyncio
import struct
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from enum import StrEnum

import asyncpg
from sqlalchemy import URL

from tests.harness.server import connect_arguments

SSL_REQUEST, CANCEL_REQUEST = 80877103, 80877102
HEADER = struct.Struct("!cI")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Stage(StrEnum):
    """How far a request has come."""

    BEGIN = "before the transaction"
    QUERY = "before a query"
    COMMIT = "before the commit"
    COMMITTING = "after the server has committed, before the service hears of it"
    COMMITTED = "after the commit, before the response"


class Fault(StrEnum):
    """What goes wrong."""

    CUT = "the network resets the connection"
    FREEZE = "the network swallows everything from now on"
    KILL = "the server ends the connection"
    DELAY = "the network is slow"


class Proxy:
    """Passes on everything, except where `choose` returns a fault for the stage that a connection has come to."""

    def __init__(self, server: URL) -> None:
        self.choose: Callable[[Stage], Fault | None] = lambda _: None
        self.happened: Counter[tuple[Stage, Fault]] = Counter()
        self.delay = 0.05
        """How slow the network is, in seconds."""
        self.port = 0
        self.server = server
        self._links: dict[asyncio.Task[None], Link] = {}
        self._listener: asyncio.Server | None = None

    async def open(self) -> None:
        """Accept connections, for the first time or again."""
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Cut all connections and refuse new ones, as if the server had died."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        for task in self._links:
            task.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)

    def freeze(self) -> None:
        """Have the network swallow everything from now on, on all connections that there are."""
        for link in self._links.values():
            link.frozen.set()

    def url(self, database: str) -> URL:
        """Return the address of a database through the proxy."""
        return self.server.set(host="127.0.0.1", port=self.port, database=database, query={})

    def once(self, stage: Stage, fault: Fault) -> None:
        """Have one fault happen, the next time that a connection comes to a stage."""

        def choose(reached: Stage) -> Fault | None:
            if reached != stage:
                return None
            self.choose = lambda _: None
            return fault

        self.choose = choose

    async def connect(self) -> Streams:
        """Open a connection to the server."""
        there = connect_arguments(self.server)
        host, port = str(there.get("host", "localhost")), int(str(there.get("port") or 5432))
        if host.startswith("/"):
            return await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        return await asyncio.open_connection(host, port)

    async def kill(self, pid: int) -> None:
        """Have the server end one of its connections."""
        connection = await asyncpg.connect(**connect_arguments(self.server), database=self.server.database)
        try:
            await connection.execute("SELECT pg_terminate_backend($1, 1000)", pid)
        finally:  # The end of the other connection may have cancelled this.
            connection.terminate()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self, reader, writer)
        task = asyncio.create_task(link.run(), name="proxy")
        self._links[task] = link
        task.add_done_callback(self._links.pop)


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._client = reader, writer
        self.frozen = asyncio.Event()
        self._pid = 0
        self._commits = False

    async def run(self) -> None:
        """Pass on both directions until one ends, or a fault does it."""
        reader, writer = self._client
        server_writer = None
        try:
            first = await self._first_message(reader, writer)
            server_reader, server_writer = await self._proxy.connect()
            server_writer.write(first)
            if struct.unpack_from("!I", first, 4)[0] == CANCEL_REQUEST:
                await server_writer.drain()
                return
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass(reader, server_writer, self._from_service))
                both.create_task(self._pass(server_reader, writer, self._from_server))
        except* (OSError, EOFError):
            pass  # This is what the end of a connection looks like.
        finally:
            for end in (writer, server_writer):
                if end is not None:
                    end.transport.abort()

    async def _first_message(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        while True:
            head = await reader.readexactly(8)
            length, code = struct.unpack("!II", head)
            if code != SSL_REQUEST:
                return head + await reader.readexactly(length - 8)
            writer.write(b"N")

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        look_at: Callable[[bytes, bytes, Callable[[], None]], Awaitable[None]],
    ) -> None:
        while True:
            head = await reader.readexactly(HEADER.size)
            letter, length = HEADER.unpack(head)
            body = await reader.readexactly(length - 4)

            def pass_on(message: bytes = head + body) -> None:
                if not self.frozen.is_set():
                    writer.write(message)

            await look_at(letter, body, pass_on)
            await writer.drain()

    async def _from_service(self, letter: bytes, body: bytes, pass_on: Callable[[], None]) -> None:
        if letter == b"Q" and body.startswith(b"BEGIN"):
            await self._reach(Stage.BEGIN)
        elif letter == b"Q" and body.startswith(b"COMMIT"):
            await self._reach(Stage.COMMIT)
        elif letter == b"B" or (letter == b"Q" and not body.startswith(b"ROLLBACK")):  # Bind, or a simple query
            await self._reach(Stage.QUERY)
        pass_on()

    async def _from_server(self, letter: bytes, body: bytes, pass_on: Callable[[], None]) -> None:
        if letter == b"K":  # BackendKeyData
            (self._pid,) = struct.unpack_from("!I", body)
        if letter == b"C" and body == b"COMMIT\0":  # CommandComplete
            self._commits = True
            await self._reach(Stage.COMMITTING)
        pass_on()
        if letter == b"Z" and self._commits:  # ReadyForQuery
            self._commits = False
            await self._reach(Stage.COMMITTED)

    async def _reach(self, stage: Stage) -> None:
        fault = None if self.frozen.is_set() else self._proxy.choose(stage)
        if fault is None:
            return
        self._proxy.happened[stage, fault] += 1
        if fault is Fault.CUT:
            raise ConnectionResetError
        if fault is Fault.FREEZE:
            self.frozen.set()
        elif fault is Fault.KILL:
            await self._proxy.kill(self._pid)
        else:
            await asyncio.sleep(self._proxy.delay)


@asynccontextmanager
async def proxy_to(server: URL) -> AsyncGenerator[Proxy]:
    """Have a proxy in front of a server for the duration of the block."""
    proxy = Proxy(server)
    await proxy.open()
    try:
        yield proxy
    finally:
        await proxy.shut()
