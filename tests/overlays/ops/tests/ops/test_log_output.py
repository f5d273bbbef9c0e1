"""Where the log goes: an output that blocks, is closed, or is slow stops no request and does not prevent the exit."""

import asyncio
import json
import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TextIO, cast

import httpx
import pytest

from app.core import logging as app_logging
from app.core.logging import BackgroundHandler, ConsoleLines, JsonLines
from dev.ports import free_port
from tests.harness.server import PROJECT

NOWHERE = "postgresql+asyncpg://app@127.0.0.1:1/none"
PATIENCE = 120
REQUESTS = 400
"""More than a full pipe has room for: 64 KiB, of lines of 200 characters."""


class Pipe:
    """A pipe, and the handler that writes to it."""

    def __init__(self) -> None:
        read_end, write_end = os.pipe()
        self.reader, self.writer = os.fdopen(read_end, "rb", 0), os.fdopen(write_end, "wb", 0)
        self.handler = BackgroundHandler(cast("TextIO", self.writer))

    def close(self) -> None:
        """Have the handler's thread end, whatever it does, and close both ends."""
        self.handler.close()
        self.reader.close()
        self.handler.flush()
        self.writer.close()

    def read(self) -> str:
        """Read what is there, or wait for it."""
        assert select.select([self.reader], [], [], PATIENCE)[0], "nothing was written"
        return self.reader.read(65536).decode()

    def read_to_the_end(self) -> list[str]:
        """Read all lines that the handler has yet to write."""
        lines: list[str] = []
        thread = threading.Thread(target=lambda: lines.extend(self.reader.readall().decode().splitlines()))
        thread.start()
        self.handler.flush()
        self.writer.close()
        thread.join(PATIENCE)
        return lines


@pytest.fixture
def pipe() -> Generator[Pipe]:
    """A pipe with a handler."""
    pipe = Pipe()
    yield pipe
    pipe.close()


def make_record(message: str, severity: int = logging.INFO, **fields: object) -> logging.LogRecord:
    record = logging.LogRecord("app.test", severity, __file__, 1, message, (), None)
    vars(record).update({"request_id": None} | fields)
    return record


def test_records_are_written_in_order(pipe: Pipe) -> None:
    for number in range(100):
        pipe.handler.handle(make_record(f"{number}", logging.ERROR if number % 10 == 0 else logging.INFO))
    pipe.handler.flush()

    assert pipe.read().split() == [f"{number}" for number in range(100)]


def test_flush_waits_for_a_slow_reader(pipe: Pipe) -> None:
    total, received = 1_000_000, 0

    def read_later() -> None:
        nonlocal received
        time.sleep(0.2)
        while received < total:
            received += len(pipe.read())

    for _ in range(total // 1000):
        pipe.handler.handle(make_record("x" * 999))
    thread = threading.Thread(target=read_later)
    thread.start()
    pipe.handler.flush()
    received_by_then = received
    thread.join(PATIENCE)

    assert received_by_then > total - 200_000, "but for what is in the pipe"
    assert received == total


def test_what_a_blocked_output_does_not_take_is_dropped_and_counted(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_logging, "MAX_QUEUED", 200_000)

    for number in range(3000):
        pipe.handler.handle(make_record(f"{number:099}"))
    lines = pipe.read_to_the_end()

    notices = [line for line in lines if "dropped" in line]
    assert len(notices) == 1
    assert int(notices[0].split()[0]) == 3000 - (len(lines) - 1)
    assert lines[:2000] == [f"{number:099}" for number in range(2000)]


def test_the_notice_does_not_wait_for_another_record(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app_logging, "MAX_QUEUED", 150_000)
    pipe.handler.handle(make_record("x" * 140_000, logging.ERROR))
    pipe.reader.read(1)  # The thread has begun to write.

    pipe.handler.handle(make_record("y" * 140_000))
    text = ""
    while "\n" not in text[:-1]:
        text += pipe.read()

    assert text.splitlines()[1].startswith("1 records were dropped")


def test_a_closed_output_is_told_once(pipe: Pipe, capfd: pytest.CaptureFixture[str]) -> None:
    pipe.reader.close()

    for number in range(50):
        pipe.handler.handle(make_record(f"{number}", logging.ERROR))
        pipe.handler.flush()

    said = capfd.readouterr().err
    assert said.count("The log cannot be written") == 1
    assert len(said) < 200


def test_an_output_that_does_not_block_is_written_to(pipe: Pipe) -> None:
    """Another process that shares a terminal or a pipe with the service may have changed that, as Node.js does."""
    os.set_blocking(pipe.writer.fileno(), False)

    for number in range(3000):
        pipe.handler.handle(make_record(f"{number:099}"))

    assert pipe.read_to_the_end() == [f"{number:099}" for number in range(3000)]


def test_a_record_that_cannot_be_formatted_costs_one_line(pipe: Pipe, capfd: pytest.CaptureFixture[str]) -> None:
    record = make_record("%d of them")
    record.args = ("a-secret-value",)

    pipe.handler.handle(record)
    pipe.handler.flush()

    line = pipe.read()
    assert line.startswith("a record from ")
    assert line.endswith(f"{__file__}:1 cannot be formatted: TypeError\n")
    assert capfd.readouterr().err == ""


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_writes_its_own_records(pipe: Pipe) -> None:
    pipe.handler.handle(make_record("before"))
    child = os.fork()
    if not child:
        pipe.handler.handle(make_record("in the fork"))
        os._exit(0)
    os.waitpid(child, 0)
    pipe.handler.flush()

    assert sorted(pipe.read().splitlines()) == ["before", "in the fork"]


def json_line(record: logging.LogRecord) -> dict[str, object]:
    text = JsonLines(
        fmt="{asctime}{levelname}{name}{message}{request_id}",
        style="{",
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
    ).format(record)

    def refuse(constant: str) -> None:
        pytest.fail(f"{constant} is not JSON")

    assert "\n" not in text
    line: dict[str, object] = json.loads(text, parse_constant=refuse)
    return line


LOOP: dict[str, object] = {}
LOOP["itself"] = LOOP


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        {float("inf"): 1},
        {("a", "tuple"): 1},
        LOOP,
        object(),
        b"\xff",
        "\ud800",
        'a "quote"\n{"level": "ERROR"}',
        {"a set"},
        10**5000,
    ],
    ids=lambda value: type(value).__name__,
)
def test_any_extra_value_makes_one_line_of_json(value: object) -> None:
    line = json_line(make_record("hello", thing=value))

    assert line["message"] == "hello"
    assert "thing" in line


def test_an_extra_field_replaces_no_common_one() -> None:
    line = json_line(make_record("hello", level="ERROR", time="never", logger="app.other"))

    assert (line["level"], line["logger"]) == ("INFO", "app.test")
    assert line["time"] != "never"


@pytest.mark.parametrize("text", ["a\nforged line", "\x1b[2J", "a\rb", "\x9b31m", "a\u2028b", "\x00"])
@pytest.mark.parametrize("in_exception", [False, True])
def test_on_the_console_nothing_forges_a_line(text: str, in_exception: bool) -> None:
    record = make_record("hello" if in_exception else text)
    if in_exception:
        error = ValueError(text)
        record.exc_info = (ValueError, error, None)

    formatted = ConsoleLines("%(message)s").format(record)

    first, *others = formatted.split("\n")
    assert all(line.startswith("    ") for line in others)
    assert all(character.isprintable() for line in (first, *others) for character in line)


@asynccontextmanager
async def serving(
    *, stdout: int | None, stderr: int | None = None, **settings: object
) -> AsyncGenerator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """Run the service in a process of its own, whose output goes elsewhere; wait until it answers."""
    port = free_port()
    variables = {"ENVIRONMENT": "test", "PORT": port, "DATABASE_URL": NOWHERE} | settings
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app"),
        cwd=PROJECT,
        env=os.environ | {name.upper(): f"{value}" for name, value in variables.items()},
        stdout=stdout,
        stderr=stderr,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE) as client:
            async with asyncio.timeout(PATIENCE):
                while True:
                    assert process.returncode is None
                    with suppress(httpx.ConnectError):
                        await client.get("/health")
                        break
                    await asyncio.sleep(0.05)
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
async def test_a_blocked_output_stops_neither_requests_nor_the_exit(pipe: Pipe, workers: int) -> None:
    async with serving(stdout=pipe.writer.fileno(), stderr=pipe.writer.fileno(), workers=workers) as (process, client):
        answers = [await client.get(f"/health/{'x' * 200}") for _ in range(REQUESTS)]
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), PATIENCE)

    assert [answer.status_code for answer in answers] == [404] * REQUESTS
    assert code == 0


@pytest.mark.slow
async def test_a_closed_output_costs_one_short_line(pipe: Pipe, tmp_path: Path) -> None:
    said = tmp_path / "stderr"
    with said.open("w") as stderr:
        async with serving(stdout=pipe.writer.fileno(), stderr=stderr.fileno()) as (process, client):
            pipe.reader.close()
            statuses = {(await client.get("/health")).status_code for _ in range(50)}
            process.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(process.wait(), PATIENCE)

    assert (statuses, code) == ({200}, 0)
    assert len(said.read_text()) < 500


@pytest.mark.slow
async def test_no_request_that_was_answered_is_missing_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "stdout"
    with log.open("w") as stdout:
        async with serving(stdout=stdout.fileno()) as (process, client):
            for number in range(100):
                await client.get(f"/health/{number}")
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), PATIENCE)

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["path"] for line in lines if line.get("status") == 404] == [f"/health/{n}" for n in range(100)]
