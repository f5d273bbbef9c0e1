"""Fuzz the service, as its own OpenAPI document describes it: `python -m dev.fuzz`, with options of `schemathesis run`.

The service runs in a process of its own, on servers that nobody needs afterwards. Another module here takes part with
`fuzzed`, a context manager that is given the service's variables and yields more of them, and with `FUZZ_SETTINGS` for
schemathesis. Settings of your own for it go into `schemathesis.toml`, beside the Makefile.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import FrameType, ModuleType

from dev.__main__ import PROJECT, STOP_SIGNALS, run, say
from dev.example_settings import example_settings
from dev.ports import free_port
from dev.postgres import PostgresError, throw_away_server

# Not a dependency: its plugin for pytest would be in every run of the tests.
SCHEMATHESIS = "schemathesis>=4.32.5,<5"
# The health that is not to be checked is that of making up data, which takes its time on a busy machine.
OPTIONS = ("--checks=all", "--continue-on-failure", "--request-timeout=10", "--suppress-health-check=all")
SETTINGS = """
# Nobody can replay a case later: the service is gone by then.
[cache]
enabled = false
"""
STARTING = 60
"""For how many seconds to wait for the service, on a machine that is busy with other things."""


class FuzzError(RuntimeError):
    """There was nothing to fuzz; the message says why."""


def parts() -> Iterator[ModuleType]:
    """Yield the modules here that take part."""
    for found in iter_modules([str(Path(__file__).parent)], prefix="dev."):
        if not found.name.endswith((".__main__", ".fuzz")) and hasattr(module := import_module(found.name), "fuzzed"):
            yield module


@contextmanager
def environment() -> Generator[dict[str, str]]:
    """Yield the variables of a service on a migrated database, with all else that it needs."""
    with ExitStack() as servers:
        variables = (
            os.environ
            | example_settings()
            | {
                "ENVIRONMENT": "test",
                "HOST": "127.0.0.1",
                "PORT": str(free_port()),
                "WORKERS": "1",
                "LOG_LEVEL": "ERROR",
                "LOG_FORMAT": "console",
                "DATABASE_URL": servers.enter_context(throw_away_server()).url,
            }
        )
        say("Migrating")
        if run([sys.executable, "-m", "alembic", "upgrade", "head"], variables):
            raise FuzzError("The migrations failed.")
        for module in parts():
            variables |= servers.enter_context(module.fuzzed(variables))
        yield variables


@contextmanager
def serving(variables: dict[str, str], log: Path) -> Generator[str]:
    """Run the service, which writes into `log`, and yield its address.

    Raises:
        FuzzError: it does not start, or did not live as long as the block.
    """
    url = "http://{HOST}:{PORT}".format_map(variables)
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "app"],
            cwd=PROJECT,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        until = time.monotonic() + STARTING
        while not is_ready(url):
            if process.poll() is not None or time.monotonic() > until:
                raise FuzzError("The service does not start.")
            time.sleep(0.1)
        yield url
        if process.poll() is not None:
            raise FuzzError(f"The service ended by itself, with the exit code {process.returncode}.")
    finally:
        process.terminate()
        try:
            process.wait(STARTING)
        finally:
            process.kill()


def is_ready(url: str) -> bool:
    """Ask the service whether it can do its work."""
    # What answers is on this machine, and the way there leads through no proxy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(OSError), opener.open(f"{url}/health/ready", timeout=10) as response:
        return bool(response.status == 200)
    return False


def schemathesis(url: str, options: list[str], variables: dict[str, str], folder: Path) -> tuple[int, int]:
    """Run it, with `folder` for what it writes. Returns its exit code, and how many cases there were."""
    uv = variables.get("UV") or shutil.which("uv")
    if uv is None:
        raise FuzzError("This needs uv: use make fuzz.")
    settings, report, own = folder / "schemathesis.toml", folder / "report.json", PROJECT / "schemathesis.toml"
    texts = [own.read_text(encoding="utf-8")] if own.exists() else []
    texts += [SETTINGS, *(getattr(module, "FUZZ_SETTINGS", "") for module in parts())]
    settings.write_text("\n".join(texts), encoding="utf-8")
    no_proxy = ",".join(filter(None, (variables.get("NO_PROXY"), variables["HOST"])))
    code = run(
        [
            *(uv, "tool", "run", "--python", sys.executable, "--from", SCHEMATHESIS, "schemathesis"),
            *("--config-file", str(settings), "run", f"{url}/openapi.json"),
            *("--report=json", f"--report-json-path={report}", *OPTIONS, *options),
        ],
        variables | {"HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"), "NO_PROXY": no_proxy},
    )
    return code, cases_in(report)


def cases_in(report: Path) -> int:
    """Return how many cases there were, if it came to a report: something may have ended it in the middle."""
    with suppress(OSError, ValueError):
        return int(json.loads(report.read_text(encoding="utf-8"))["test_cases"]["generated"])
    return 0


def fuzz(options: list[str]) -> int:
    """Fuzz the service. Returns the exit code: 0 if there were cases, and nothing is wrong with any of them."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        log = Path(temporary) / "service.log"
        code = cases = 0
        try:
            with environment() as variables, serving(variables, log) as url:
                say(f"Fuzzing {url}")
                code, cases = schemathesis(url, options, variables, Path(temporary))
        except (FuzzError, PostgresError) as error:
            print(error, file=sys.stderr)
            code = code or 1
        if code and log.exists() and (said := log.read_text(encoding="utf-8", errors="replace").strip()):
            say(f"The service has said:\n{said[-20_000:]}")
        say(f"{cases} cases, {'all is well' if cases and not code else 'and not all is well'}")
        return code or int(not cases)


def stop(number: int, _: FrameType | None) -> None:
    """End the program as a signal would, but only after stopping the servers: no second one is to disturb that."""
    for other in STOP_SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


def main(arguments: list[str]) -> int:
    """Fuzz with the options that were given, or else those that take about a minute. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dev.fuzz", add_help=False, allow_abbrev=False)
    parser.add_argument("--seed", type=int, default=random.randrange(2**32))  # noqa: S311 - no secret
    parser.add_argument("-n", "--max-examples", type=int, default=100)
    given, others = parser.parse_known_args(arguments)
    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    say(f'The seed is {given.seed}: make fuzz ARGS="--seed {given.seed}" does the same again')
    return fuzz([f"--seed={given.seed}", f"--max-examples={given.max_examples}", *others])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
