"""What `make demo` runs: render a service from this checkout, start it, and say what to open.

The service runs in a process group of its own, so this program alone decides how it ends: on Ctrl-C, SIGTERM or SIGHUP
the group is interrupted as a terminal would do it, and the temporary folder goes after the last of its processes.
"""

import argparse
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from types import FrameType

import yaml

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
NAME = "my-service"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# How long the service may take to end before it is asked less kindly: a little more than it gives its own requests.
PATIENCE = ((signal.SIGINT, 30), (signal.SIGTERM, 5), (signal.SIGKILL, 5))
# What would reach into the demo from the caller's environment: databases that are not the demo's to migrate, where and
# how the service listens, the environment this program runs in, and what make tells the makes that it starts.
NOT_FOR_THE_SERVICE = frozenset(
    {"DATABASE_URL", "TEST_DATABASE_URL", "ENVIRONMENT", "HOST", "PORT", "WORKERS"}
    | {"VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "PYTHONHOME", "PYTHONPATH"}
    | {"DATA", "DEST", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "MFLAGS"}
)
TRUTH = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "t", "f", "1", "0"})


class DemoError(Exception):
    """The demo cannot be given; the message is one line for whoever asked for it."""


class Stop:
    """Whether somebody wants this to end. A flag, not an exception: nothing is ever left half-done."""

    def __init__(self) -> None:
        self.number = 0
        for number in STOP_SIGNALS:
            signal.signal(number, self._remember)

    def _remember(self, number: int, _: FrameType | None) -> None:
        self.number = self.number or number

    def __bool__(self) -> bool:
        return self.number != 0


def check_surroundings() -> None:
    """Check that the programs are there which the demo cannot bring along.

    Raises:
        DemoError: one is missing.
    """
    for program in ("git", "make"):
        if shutil.which(program) is None:
            raise DemoError(f"{program} is missing: install it and run make again.")


def read_port(text: str) -> int:
    """Return the port, which must be a number and free.

    Raises:
        DemoError: it is not.
    """
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**16):
        raise DemoError(f"PORT={text} is not a port: give a number from 1 to 65535.")
    port = int(text)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise DemoError(f"Cannot listen on port {port}: {error.strerror}. Choose another: PORT=8001") from error
    return port


def read_destination(text: str) -> Path | None:
    """Return the folder to keep the service in, or None if it is not to be kept.

    Raises:
        DemoError: something is there already, or nothing can be put there.
    """
    if not text.strip():
        return None
    folder = Path(text).expanduser().absolute()
    if folder.is_dir() and any(folder.iterdir()):
        raise DemoError(f"DEST={text} is not empty: name a new folder.")
    existing = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
    if not existing.is_dir():
        raise DemoError(f"DEST={text} cannot be made: {existing} is not a folder.")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise DemoError(f"DEST={text} cannot be made: you may not write to {existing}.")
    return folder


def read_answers(text: str) -> dict[str, str]:
    """Return the answers in `key=value key='another value'`.

    Raises:
        DemoError: a word is not of that form, or the template has no such question.
    """
    configuration = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
    questions = {
        name: details
        for name, details in configuration.items()
        if not name.startswith("_") and details.get("when") is not False  # Those are never asked.
    }
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise DemoError(f"DATA cannot be read: {str(error).lower()}.") from error
    answers = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise DemoError(f"DATA has the word {word!r}: write key=value, and quote a value that has spaces.")
        if key not in questions:
            raise DemoError(f"DATA answers {key!r}, which the template does not ask. It asks: {', '.join(questions)}.")
        # Copier takes any other word for true.
        if questions[key]["type"] == "bool" and value.lower() not in TRUTH:
            raise DemoError(f"DATA has {word!r}: {key} is true or false.")
        answers[key] = value
    return answers


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that goes after the block, and take Copier's temporary files into it."""
    folder = Path(tempfile.mkdtemp(prefix="demo-", dir=open_folder()))
    previous, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        # PostgreSQL never runs as root: if that is who we are, another user must be able to come in.
        folder.chmod(0o755)
        yield folder
    finally:
        tempfile.tempdir = previous
        shutil.rmtree(folder, ignore_errors=True)


def open_folder() -> Path:
    """Return the folder for temporary files; for root, one that other users may enter."""
    usual = Path(tempfile.gettempdir()).resolve()
    if os.geteuid() != 0:
        return usual
    folders = (usual, Path("/tmp"), Path("/var/tmp"))
    return next((folder for folder in folders if folder.is_dir() and is_open(folder)), usual)


def is_open(folder: Path) -> bool:
    """Say whether everybody may enter a folder."""
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))


def render(folder: Path, answers: dict[str, str]) -> None:
    """Render the service, from this checkout as it is, into a new folder.

    Raises:
        DemoError: an answer is refused.
    """
    import copier  # Slow, and a signal that arrives meanwhile must already find its handler.

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # That the checkout has changes, or is shallow, is not of interest here.
        try:
            copier.run_copy(
                str(ROOT),
                folder,
                data=dict(answers),
                vcs_ref="HEAD",
                settings=copier.Settings(),
                defaults=True,
                quiet=True,
                unsafe=False,
            )
        except (ValueError, OSError, copier.errors.CopierError) as error:
            raise DemoError(" ".join(str(error).split())) from error


def put(rendered: Path, destination: Path) -> None:
    """Copy the rendered service to where it is to stay.

    Raises:
        DemoError: it cannot be written there; nothing of it is left.
    """
    existed = destination.exists()
    try:
        shutil.copytree(rendered, destination, symlinks=True, dirs_exist_ok=True)
    except OSError as error:
        for path in destination.iterdir() if existed else [destination]:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
        reason = error.strerror or "some files could not be written"
        raise DemoError(f"The service cannot be written to {destination}: {reason}.") from error


def serve(project: Path, port: int, stop: Stop, *, kept: bool) -> int:
    """Run the service until it is stopped. Returns the exit code."""
    process = start(project, port)
    try:
        if wait_until_ready(process, port, stop):
            say(what_to_open(project, port, kept=kept))
            while process.poll() is None:
                if stop:
                    return 0 if stop.number == signal.SIGINT else 128 + stop.number
                time.sleep(0.1)
    finally:
        end(process)
    if stop:
        return 128 + stop.number
    say_why(f"The service ended by itself (make dev: exit code {process.returncode}); its last words are above.")
    return 1


def start(project: Path, port: int) -> subprocess.Popen[bytes]:
    """Start `make dev` in the rendered project."""
    environment = {name: value for name, value in os.environ.items() if name not in NOT_FOR_THE_SERVICE}
    return subprocess.Popen(
        ["make", "--no-print-directory", "dev", f"PORT={port}"],
        cwd=project,
        env=environment,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_until_ready(process: subprocess.Popen[bytes], port: int, stop: Stop) -> bool:
    """Wait until the service says that it is ready. False if it ended before, or is to end."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None and not stop:
        with suppress(OSError), direct.open(f"http://{HOST}:{port}/health/ready", timeout=2) as response:
            if response.status == HTTPStatus.OK:
                return True
        time.sleep(0.1)
    return False


def end(process: subprocess.Popen[bytes]) -> None:
    """End the service's whole process group, and wait until it has."""
    for number, patience in PATIENCE:
        if has_ended(process, 0):
            return
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if has_ended(process, patience):
            return


def has_ended(process: subprocess.Popen[bytes], patience: float) -> bool:
    """Say whether a whole process group is gone, which may be after its leader; wait for it a while."""
    until = time.monotonic() + patience
    while True:
        process.poll()
        try:
            os.killpg(process.pid, 0)
        except (ProcessLookupError, PermissionError):  # The second from macOS, for those not waited for.
            return True
        if time.monotonic() >= until:
            return False
        time.sleep(0.05)


def what_to_open(project: Path, port: int, *, kept: bool) -> str:
    """Return what to tell the user about the running service."""
    address = f"http://{HOST}:{port}"
    lines = [
        "",
        "The service runs.",
        "",
        f"  documentation  {address}/docs",
        f"  health         {address}/health/ready",
    ]
    if (project / "app" / "projects").is_dir():
        command = f"curl -X POST {address}/api/v1/projects -H 'Content-Type: application/json'"
        lines.append(f'  try            {command} -d \'{{"name": "Apollo"}}\'')
    stays = "it stays" if kept else "it is removed when you stop; DEST=folder keeps one"
    return "\n".join([*lines, f"  source         {project} ({stays})", "", "Ctrl-C stops it.", ""])


def say(text: str) -> None:
    """Tell the user something, unless the terminal is gone."""
    with suppress(OSError):
        print(text, flush=True)


def say_why(text: str) -> None:
    """Tell the user what is wrong."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def demonstrate(arguments: argparse.Namespace, stop: Stop) -> int:
    """Check, render, run. Returns the exit code.

    Raises:
        DemoError: something is wrong with what was asked for; nothing is left of the attempt.
    """
    check_surroundings()
    port, destination, answers = (
        read_port(arguments.port),
        read_destination(arguments.dest),
        read_answers(arguments.data),
    )
    with temporary_folder() as folder:
        say("--- Rendering a service")
        project = folder / (destination.name if destination else NAME)
        try:
            render(project, answers)
        except DemoError:
            if stop:  # The terminal sends Ctrl-C to the git that Copier runs, too.
                return 128 + stop.number
            raise
        if stop:
            return 128 + stop.number
        if destination:
            put(project, destination)
            project = destination
        return serve(project, port, stop, kept=destination is not None)


def main() -> int:
    """Read the arguments and give the demo. Returns the exit code."""
    stop = Stop()
    parser = argparse.ArgumentParser(description="Render a service from this checkout and run it.")
    parser.add_argument("--dest", default="", help="the folder to keep it in; a temporary one otherwise")
    parser.add_argument("--port", default="8000", help="where it listens")
    parser.add_argument("--data", default="", help="answers to the template's questions: key=value ...")
    arguments = parser.parse_args()
    try:
        return demonstrate(arguments, stop)
    except DemoError as error:
        say_why(str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
