"""Measures what the isolation of a database test costs, against the other ways and against the figures to reach.

The template is rendered to a temporary folder and its tests' own harness is measured there, on the embedded PostgreSQL.
All mechanisms run in one pytest session, in alternating blocks of thirty. So they share the process, the server, every
cache and whatever else the machine is doing, and yet each runs among its own kind: in strict alternation one would pay
for the connections and databases that another one closes in the background. The first tests of a block pay for that,
and are not counted.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import copier

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
TESTS = "tests/bench/test_mechanisms.py"
ROUNDS = 16
BLOCK = 30
NOT_COUNTED = 10
"""So many tests at the beginning of a block are still slower than those that follow: of `real_db`, which needs both
cores, the first nine after a block that needed one."""
MANY = 1000
BUSY = 0.5
BALLAST = 6
"""Tables added to the example's two. What create_all costs grows with the schema; a small service has eight."""
UNWANTED = {
    "DATABASE_URL",
    "TEST_DATABASE_URL",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "PYTEST_ADDOPTS",
    "PYTHONDONTWRITEBYTECODE",
}
"""What in the environment would lead to another database, other packages or other options, or have every run compile
all packages once more."""

MECHANISMS = {
    "floor": "floor: no database, three pings",
    "no_database": "no database, full harness",
    "no_isolation": "no isolation",
    "create_all": "create_all / drop_all",
    "sandbox": "sandbox, all detectors on",
    "real_db": "real_db",
}


class Blocks(list[float]):
    """What a test costs in each block: the median of the block's tests, in milliseconds."""

    @property
    def median(self) -> float:
        """The cost over all blocks."""
        return statistics.median(self)

    def over(self, other: "Blocks") -> float:
        """Return the ratio to `other`: the median of the ratios of blocks that ran one after the other.

        The machine's speed changes by a third within a minute, and much less from one block to the next.
        """
        return statistics.median(mine / others for mine, others in zip(self, other, strict=True))


@dataclass(frozen=True)
class Cost:
    """What a test of one mechanism costs."""

    total: Blocks
    around: Blocks
    """Set-up and tear-down."""

    @classmethod
    def of(cls, durations: list[dict[str, float]]) -> "Cost":
        """Return the cost of tests, each given as seconds by phase."""
        blocks = [durations[start + NOT_COUNTED : start + BLOCK] for start in range(0, len(durations), BLOCK)]
        total = Blocks(statistics.median(sum(phases.values()) for phases in block) * 1000 for block in blocks)
        around = Blocks(
            statistics.median(phases["setup"] + phases["teardown"] for phases in block) * 1000 for block in blocks
        )
        return cls(total, around)


@dataclass(frozen=True)
class Figure:
    """A ratio to stay below."""

    name: str
    most: float
    measured: float

    @property
    def is_reached(self) -> bool:
        """Say whether it holds, as precisely as it is printed."""
        return round(self.measured, 2) <= self.most


class Project:
    """A rendered project, with the tests of `overlay/` added."""

    def __init__(self, folder: Path, ballast: int) -> None:
        self.folder = folder
        self.environ = {name: value for name, value in os.environ.items() if name not in UNWANTED}
        self.environ["BENCH_BALLAST"] = str(ballast)
        self.python = folder / self.environ.get("UV_PROJECT_ENVIRONMENT", ".venv") / "bin" / "python"

    def render(self) -> None:
        """Render the working copy of the template."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # That there are changes which are not committed: they are to be measured.
            copier.run_copy(
                str(REPOSITORY),
                self.folder,
                data={"example": True},
                defaults=True,
                unsafe=False,
                vcs_ref="HEAD",
                quiet=True,
                settings=copier.Settings(),
            )
        shutil.copytree(HERE / "overlay", self.folder, dirs_exist_ok=True)

    def install(self) -> None:
        """Install what it needs, or with UV_NO_SYNC and UV_PROJECT_ENVIRONMENT use what is there."""
        if not self.environ.get("UV_NO_SYNC"):
            self._run(["uv", "sync", "--quiet"])

    def test(self, *arguments: str) -> float:
        """Run pytest, and return how many seconds it took from start to end."""
        started = time.perf_counter()
        quietly = ["-qq", "--no-header", "--exitfirst", "-p", "no:randomly", "-p", "no:cacheprovider"]
        self._run([str(self.python), "-m", "pytest", *quietly, *arguments])
        return time.perf_counter() - started

    def measure(self) -> dict[str, Cost]:
        """Measure all mechanisms in one session."""
        results = self.folder / "measurements.json"
        self.test(TESTS, f"--rounds={ROUNDS}", f"--block={BLOCK}", f"--measurements={results}")
        measured = json.loads(results.read_text(encoding="utf-8"))
        return {name: Cost.of(measured[f"test_{name}"]) for name in MECHANISMS}

    def run_many(self, mechanism: str) -> float:
        """Return the seconds that a session of many tests takes, start-up included."""
        return self.test(TESTS, f"--only=test_{mechanism}", "--rounds=4", f"--block={MANY // 4}")

    def _run(self, command: list[str]) -> None:
        """Run a program; if this one is interrupted, ask that one to stop as well, and wait until it has cleaned up."""
        # In a session of its own, or Ctrl-C would reach it a second time, from the terminal, while it cleans up.
        process = subprocess.Popen(command, cwd=self.folder, env=self.environ, start_new_session=True)
        try:
            if process.wait():
                raise subprocess.CalledProcessError(process.returncode, command)
        except BaseException:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            raise


def figures(cost: dict[str, Cost], many: dict[str, float]) -> list[Figure]:
    """Return the figures to reach, as `ISOLATION.md` has them."""
    floor, crud, tables = cost["floor"], cost["sandbox"], cost["create_all"]
    return [
        Figure("CRUD test against no isolation", 1.15, crud.total.over(cost["no_isolation"].total)),
        Figure("CRUD test against create_all/drop_all", 0.25, crud.total.over(tables.total)),
        Figure("set-up + tear-down against the floor's", 3.0, crud.around.over(floor.around)),
        Figure(
            "test without a database, full harness, against the floor", 1.5, cost["no_database"].total.over(floor.total)
        ),
        Figure("real_db test against create_all/drop_all", 0.5, cost["real_db"].total.over(tables.total)),
        Figure(f"{MANY:,} tests against create_all/drop_all", 0.25, many["sandbox"] / many["create_all"]),
    ]


def print_costs(cost: dict[str, Cost]) -> None:
    """Print what each mechanism costs."""
    heading = ("total ms", "set-up + tear-down ms", "to no isolation", "to create_all")
    print(f"\n{'mechanism, medians':<34}" + "".join(f"{column:>{len(column) + 3}}" for column in heading))
    for name, label in MECHANISMS.items():
        total, around = cost[name].total, cost[name].around
        ratios = (total.over(cost["no_isolation"].total), total.over(cost["create_all"].total))
        print(f"{label:<34}{total.median:>11.2f}{around.median:>24.2f}{ratios[0]:>18.2f}{ratios[1]:>16.2f}")


def print_figures(reached: list[Figure]) -> None:
    """Print which figures are reached."""
    print(f"\n{'figure to reach':<60}{'at most':>9}{'measured':>11}")
    for figure in reached:
        verdict = "ok" if figure.is_reached else "MISSED"
        print(f"{figure.name:<60}{figure.most:>9.2f}{figure.measured:>11.2f}   {verdict}")


def progress(what: str) -> None:
    """Say what happens next, since it takes more than a moment."""
    print(what, flush=True)


def bench(ballast: int) -> list[Figure]:
    """Measure everything, and print it."""
    load = os.getloadavg()[0]
    if load > BUSY:
        progress(
            f"the machine is busy (load {load:.1f}): what works in the background, as for real_db, will look worse"
        )
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        project = Project(Path(folder) / "project", ballast)
        progress("rendering the template, and installing what it needs")
        project.render()
        project.install()
        progress(f"measuring {len(MECHANISMS)} mechanisms on {ballast + 2} tables")
        cost = project.measure()
        many: dict[str, float] = {}
        for name in ("sandbox", "create_all") * 2:  # The shorter of two runs: the one that was disturbed less.
            progress(f"running {MANY:,} tests: {MECHANISMS[name]}")
            seconds = project.run_many(name)
            many[name] = min(seconds, many.get(name, seconds))
            progress(f"    {seconds:.1f} s")
    reached = figures(cost, many)
    print_costs(cost)
    print_figures(reached)
    return reached


def main() -> int:
    """Run the benchmark; the exit code is 1 when a figure is missed."""
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure what isolating a database test costs."
    )
    parser.add_argument("--ballast", type=int, default=BALLAST, help="tables to add to the example's two [%(default)s]")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # As an exception, so that everything is cleaned up.
    try:
        return 0 if all(figure.is_reached for figure in bench(arguments.ballast)) else 1
    except KeyboardInterrupt:
        return 130
    except subprocess.CalledProcessError as error:
        print(f"failed: {' '.join(error.cmd)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
