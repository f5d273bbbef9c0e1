"""Measures the service's endpoints under a real server and under load, against what they are made of.

All servers run at once, each in one process, and are asked in turns, so that whatever slows the machine down slows all
of them. What counts is the median of the ratios of measurements that came one after the other, with their spread.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import httpx
from sqlalchemy import make_url
from uvicorn.loops.auto import auto_loop_factory

from dev.bench.load import Result, put_load_on
from dev.bench.plot import plot
from dev.example_settings import example_settings
from dev.ports import free_port
from dev.postgres import PostgresError, throw_away_server

ResultT = TypeVar("ResultT")

PROJECT = Path(__file__).parent.parent.parent
REPORT = PROJECT / ".bench"
CONNECTIONS = 16
FILL = """
    INSERT INTO projects (id, name, description)
    SELECT gen_random_uuid(), 'Project ' || number, 'One of many' FROM generate_series(1, 1000) AS number
"""
SERVICE, BARE, RAW = "the service", "bare route, SQLAlchemy", "bare route, asyncpg"
REFERENCE = ("-m", "uvicorn", "--factory", "--no-access-log", "--log-level=warning", "--no-server-header", "--port")
MEMORY_STEPS = 12
MOST_GROWTH = 2.0
"""By how many MiB the service may grow in the last two thirds of many requests: in the first it fills its caches."""

FIGURES = {
    ("read one", BARE): 0.90,
    ("list of 20", BARE): 0.90,
    ("create", BARE): 0.90,
    ("read one", RAW): 0.33,
    ("list of 20", RAW): 0.33,
}
"""The least share of a reference's throughput."""
SLOWEST = 1.25
"""The most that the service's 99th percentile may be of that of the bare route."""


@dataclass(frozen=True)
class Ratio:
    """The service against one reference, at one endpoint."""

    endpoint: str
    reference: str
    throughputs: list[float]
    """The share of the reference's throughput, in each round."""
    p99s: list[float]

    @property
    def share(self) -> float:
        """The median share."""
        return statistics.median(self.throughputs)

    @property
    def p99(self) -> float:
        """How often the reference's 99th percentile goes into the service's."""
        return statistics.median(self.p99s)

    @property
    def is_reached(self) -> bool:
        """Say whether the figures to reach are reached, as precisely as they are printed."""
        enough = round(self.share, 2) >= FIGURES.get((self.endpoint, self.reference), 0)
        return enough and (self.reference != BARE or round(self.p99, 2) <= SLOWEST)


def get(path: str) -> Callable[[], bytes]:
    """Return what makes the same request again and again."""
    request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
    return lambda: request


def post(path: str) -> Callable[[], bytes]:
    """Return what makes requests that each bring another name."""
    numbers = count()

    def make() -> bytes:
        body = json.dumps({"name": f"Measured {os.urandom(8).hex()} {next(numbers):012}"})
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()

    return make


@contextmanager
def server(*arguments: str, database_url: str, port: int) -> Generator[int]:
    """Run a server for the duration of the block, and yield its process id when it answers."""
    variables = os.environ | example_settings()
    variables |= {"ENVIRONMENT": "test", "DATABASE_URL": database_url, "PORT": str(port), "SHUTDOWN_DELAY": "0"}
    with subprocess.Popen(
        [sys.executable, *arguments], cwd=PROJECT, env=variables, stdout=subprocess.DEVNULL
    ) as process:
        try:
            answered = False
            while not answered:
                if process.poll() is not None:
                    raise RuntimeError(f"{' '.join(arguments)} has ended with the exit code {process.returncode}")
                try:
                    httpx.get(f"http://127.0.0.1:{port}/", trust_env=False)
                    answered = True
                except httpx.TransportError:
                    pass
            yield process.pid
        finally:
            process.terminate()


def await_(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run `work` on the same kind of event loop as the servers."""
    with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
        return runner.run(work)


async def seed(database_url: str) -> str:
    """Fill the table, and return the id of one of its rows."""
    url = make_url(database_url)
    connection = await asyncpg.connect(**url.translate_connect_args(username="user") | dict(url.query))
    await connection.execute(FILL)
    await connection.execute("VACUUM ANALYZE projects")
    chosen = await connection.fetchval("SELECT id FROM projects ORDER BY name LIMIT 1")
    await connection.close()
    return str(chosen)


def endpoints(port: int, row: str) -> dict[str, Callable[[], bytes]]:
    """Return what to ask for, by its name."""
    found = {"read one": get(f"/api/v1/projects/{row}"), "list of 20": get("/api/v1/projects?limit=20")}
    answer = httpx.post(f"http://127.0.0.1:{port}/api/v1/projects", trust_env=False)
    if answer.status_code == httpx.codes.UNPROCESSABLE_ENTITY:  # What is missing is only the body.
        return found | {"create": post("/api/v1/projects")}
    print("--- Not everybody may create, as they may in the references: it is not measured")
    return found


def measure(ports: dict[str, int], row: str, rounds: int, seconds: float) -> Iterator[Ratio]:
    """Ask all servers in turns. Yields the ratios of each endpoint."""
    for endpoint, request in endpoints(ports[SERVICE], row).items():
        results: dict[str, list[Result]] = {name: [] for name in ports}
        for number in range(rounds + 1):  # The first one warms up.
            print(f"\r--- {endpoint}: {number} of {rounds} ", end="", flush=True)
            for name, port in ports.items():
                load = put_load_on(port, request, connections=CONNECTIONS, seconds=seconds)
                results[name].append(await_(load))
        for name, done in results.items():
            del done[0]
            print(f"  {name} {statistics.median(result.throughput for result in done):.0f}/s", end="")
        print()
        for reference in (BARE, RAW):
            both = [*zip(results[SERVICE], results[reference], strict=True)]
            throughputs = [ours.throughput / theirs.throughput for ours, theirs in both]
            yield Ratio(endpoint, reference, throughputs, [ours.p99 / theirs.p99 for ours, theirs in both])


def memory(port: int, pid: int, row: str, requests: int) -> Iterator[float]:
    """Yield how many MiB the service takes, as it goes through many requests."""
    asked = endpoints(port, row).values()
    for _ in range(MEMORY_STEPS):
        for request in asked:
            share = requests // MEMORY_STEPS // len(asked)
            await_(put_load_on(port, request, connections=CONNECTIONS, requests=share))
        size = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True).stdout  # noqa: S607
        yield int(size) / 1024


def measure_memory(port: int, pid: int, row: str, requests: int) -> int:
    """Say how the memory of the service develops. Returns the exit code."""
    sizes = []
    for size in memory(port, pid, row, requests):
        sizes.append(size)
        print(f"{len(sizes) * requests // MEMORY_STEPS:9,} requests: {size:.1f} MiB", flush=True)
    growth = sizes[-1] - sizes[MEMORY_STEPS // 3]
    print(f"--- It has grown by {growth:.1f} MiB since a third of them; at most {MOST_GROWTH} are allowed")
    return int(growth > MOST_GROWTH)


def table(ratios: list[Ratio]) -> str:
    """Return the figures for people."""
    lines = ["endpoint     against                     share  spread       figure   p99"]
    for ratio in ratios:
        low, high = min(ratio.throughputs), max(ratio.throughputs)
        figure = FIGURES.get((ratio.endpoint, ratio.reference))
        wanted = f">= {figure:.2f}" if figure else ""
        mark = "" if ratio.is_reached else "  missed"
        lines.append(
            f"{ratio.endpoint:12} {ratio.reference:26}  {ratio.share:5.2f}  {low:.2f}-{high:.2f}  {wanted:>9}  "
            f"{ratio.p99:.2f}{mark}"
        )
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> int:
    """Measure what was asked for. Returns the exit code."""
    print("--- Starting PostgreSQL and the servers", flush=True)
    with ExitStack() as stack:
        url = stack.enter_context(throw_away_server()).url
        environment = os.environ | {"DATABASE_URL": url, "LOG_LEVEL": "WARNING"}
        subprocess.run([sys.executable, "-m", "alembic", "upgrade", "head"], cwd=PROJECT, env=environment, check=True)
        row = await_(seed(url))
        ports = {name: free_port() for name in (SERVICE, BARE, RAW)}
        pid = stack.enter_context(server("-m", "app", database_url=url, port=ports[SERVICE]))
        if arguments.memory:
            return measure_memory(ports[SERVICE], pid, row, arguments.requests)
        for name, factory in ((BARE, "bare"), (RAW, "raw")):
            command = (*REFERENCE, str(ports[name]), f"dev.bench.references:{factory}")
            stack.enter_context(server(*command, database_url=url, port=ports[name]))
        ratios = [*measure(ports, row, arguments.rounds, arguments.seconds)]
    print(f"\n{table(ratios)}\n")
    REPORT.mkdir(exist_ok=True)
    (REPORT / ".gitignore").write_text("*\n")
    (REPORT / "bench.svg").write_text(plot([(ratio.endpoint, ratio.reference, ratio.throughputs) for ratio in ratios]))
    print(f"--- The plot: {REPORT / 'bench.svg'}")
    return 0 if all(ratio.is_reached for ratio in ratios) else 1


def main() -> int:
    """Read the arguments and measure. Returns the exit code: 1 if a figure was missed."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often each server is asked")
    parser.add_argument("--seconds", type=float, default=2, help="for how long, each time")
    parser.add_argument("--memory", action="store_true", help="measure only whether memory grows")
    parser.add_argument("--requests", type=int, default=240_000, help="how many, to measure memory")
    try:
        return run(parser.parse_args())
    except PostgresError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
