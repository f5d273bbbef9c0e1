"""How the service is served, and how it leaves: everything that was let in is finished.

Told to stop (SIGTERM), it says so at `/health/ready` and goes on serving for SHUTDOWN_DELAY seconds, while load
balancers find out and clients are asked, with each response, to connect anew. Then it lets nobody in any more, finishes
what it has begun, for at most SHUTDOWN_TIMEOUT seconds, closes its pool and ends.
"""

import asyncio
import gc
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from socket import SOL_SOCKET, socket
from types import FrameType

import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.supervisors import ChangeReload, Multiprocess

LINGER = 0.25
"""For how many seconds to expect, at the end, what is on its way already: a connection, or a request on an idle one."""
SUPERVISOR_LAG = 0.75
"""How many seconds later than its workers uvicorn's supervisor may notice a signal that all of them got: it looks twice
a second. It closes the door, so they wait for it."""

SO_BINDTOIFINDEX = 62
NO_NETWORK = 2**31 - 1
"""The greatest number that a network interface could have; they are counted from 1."""

leaving = threading.Event()
"""Set from the moment that this process was told to stop."""

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
    """Several processes that let clients in through the same door, which this one closes in the end."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket], delay: float) -> None:
        super().__init__(config, sockets)
        self.delay = delay

    def terminate_all(self) -> None:
        """Have all workers leave."""
        super().terminate_all()
        until = time.monotonic() + self.delay
        while time.monotonic() < until and any(worker.process.is_alive() for worker in self.processes):
            time.sleep(0.05)
        for listener in self.sockets:
            let_nobody_in(listener)


class Connection(HttpToolsProtocol):
    """A client's connection, which ends after a response, never instead of one, and if no request comes.

    uvicorn itself closes at once whatever is idle when it shuts down, also if a request has just been sent. And it
    waits for ever for the first request, and for the rest of what a request begins with.
    """

    patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self.expect_request()

    def data_received(self, data: bytes) -> None:
        """Look whether a request has begun, but not come yet."""
        super().data_received(data)
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.patience is None and self in self.connections:
            self.expect_request()

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
        super().on_headers_complete()
        if leaving.is_set() and self.cycle is not None:
            self.cycle.keep_alive = False

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self.stop_expecting()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End when the last response is sent, or if there is nothing to answer for a moment."""
        self.loop.call_later(LINGER, super().shutdown)


@contextmanager
def serving_process(delay: float, workers: int) -> Generator[None]:
    """Make a good server of this process, if it is to be one: it leaves gently, and searches less often for garbage.

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
        loop.call_later(LINGER if workers == 1 else LINGER + SUPERVISOR_LAG, stop, number, None)

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, stop)
        leaving.clear()


def let_nobody_in(listener: socket) -> bool:
    """Have the kernel refuse whoever asks for a connection from now on; those who have begun to are still let in.

    Closing a socket resets the connections that nobody has accepted yet, although their clients may have sent a
    request. After this, there are none of them in a moment: the socket listens to a network that nobody is on.
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
