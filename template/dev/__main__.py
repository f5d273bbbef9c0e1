"""Work on the service with a database at hand: `python -m dev serve`, `psql`, or `run COMMAND...`.

The database is the one that DATABASE_URL names, in the environment or in `.env`; without it, an embedded PostgreSQL
that keeps its data in `.postgres/`.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import FrameType, ModuleType

from dotenv import dotenv_values
from sqlalchemy import make_url

from app.core.config import TARGET_TRIPLE
from dev.postgres import Account, PostgresError, kept_server, readable_programs

PROJECT = Path(__file__).parent.parent
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def environment() -> Generator[dict[str, str]]:
    """Yield the variables for a command: those given, and those of the servers that come along."""
    given = {name: value for name, value in dotenv_values(PROJECT / ".env").items() if value} | dict(os.environ)
    variables = {"ENVIRONMENT": "development", "LOG_FORMAT": "console"} | given
    with ExitStack() as servers:
        if not variables.get("DATABASE_URL"):
            server = servers.enter_context(kept_server(PROJECT / ".postgres"))
            say(f"PostgreSQL keeps its data in {server.home}")
            variables |= {"DATABASE_URL": server.url}
        for module in companions():
            variables |= servers.enter_context(module.companion(variables))
        yield variables


def companions(attribute: str = "companion") -> Iterator[ModuleType]:
    """Yield the modules here that have a `companion`, another server that the service needs; or another attribute."""
    for found in iter_modules([str(Path(__file__).parent)], prefix="dev."):
        if found.name != __spec__.name and hasattr(module := import_module(found.name), attribute):
            yield module


def run(command: list[str], variables: dict[str, str]) -> int:
    """Run a command to its end, passing on the signals that ask it to stop. Returns its exit code."""
    if shutil.which(command[0]) is None:
        print(f"There is no command {command[0]!r}.", file=sys.stderr)
        return 127
    with subprocess.Popen(command, env=variables, cwd=PROJECT) as process:

        def pass_on(number: int, _: FrameType | None) -> None:
            if number != signal.SIGINT:  # The terminal sends Ctrl-C to the command as well.
                process.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in STOP_SIGNALS}
        code = process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)
    return code if code >= 0 else 128 - code


def serve(variables: dict[str, str]) -> int:
    """Migrate the database and serve, with reload."""
    host, port = variables.get("HOST") or "127.0.0.1", variables.get("PORT") or "8000"
    host = "127.0.0.1" if TARGET_TRIPLE.fullmatch(host) else host
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, int(port)))
    except (OSError, OverflowError, ValueError) as error:
        print(f"Cannot listen on {host}:{port} ({error}). Choose another port: PORT=8001", file=sys.stderr)
        return 1
    say("Migrating")
    if code := run([sys.executable, "-m", "alembic", "upgrade", "head"], variables):
        return code
    for module in companions("identity"):
        variables = variables | module.identity(variables)
    say(f"Serving on http://{host}:{port}/docs - Ctrl-C stops it")
    return run([sys.executable, "-m", "app"], variables)


def psql(variables: dict[str, str]) -> int:
    """Open psql on the database: the one on the PATH, which edits better, or the wheel's."""
    url = make_url(variables["DATABASE_URL"]).set(drivername="postgresql")
    if isinstance(url.password, str):  # Not on the command line, which every user of the machine can read.
        variables = variables | {"PGPASSWORD": url.password}
        url = url._replace(password=None)
    program = shutil.which("psql")
    if program is None:
        with readable_programs(Account(None)) as programs:
            program = str(programs / "psql")
    return run([program, url.render_as_string(hide_password=False)], variables)


def say(text: str) -> None:
    """Tell the developer what is going on."""
    print(f"--- {text}", flush=True)


def stop(number: int, _: FrameType | None) -> None:
    """End the program as a signal would, but only after stopping the server."""
    sys.exit(128 + number)


def main(arguments: list[str]) -> int:
    """Run one of the commands. Returns its exit code."""
    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    try:
        with environment() as variables:
            match arguments:
                case ["serve"]:
                    return serve(variables)
                case ["psql"]:
                    return psql(variables)
                case ["run", *command] if command:
                    return run(command, variables)
                case _:
                    print(__doc__, file=sys.stderr)
                    return 2
    except UnicodeDecodeError:
        print("The file .env is not in UTF-8.", file=sys.stderr)
        return 1
    except PostgresError as error:
        print(f"{error}\nSet DATABASE_URL to a server of your own: postgresql+asyncpg://...", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
