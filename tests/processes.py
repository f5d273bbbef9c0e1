"""Whom the tests run programs as, with which environment, and what is left of them."""

import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

UNPRIVILEGED = "nobody"
KEPT = ("LANG", "TZ", "CI", "SSL_CERT_FILE", "SSL_CERT_DIR", "XDG_CACHE_HOME")
KEPT_BEGINNINGS = (
    "LC_",
    "UV_INDEX",
    "UV_DEFAULT_INDEX",
    "UV_CACHE",
    "PIP_",
    "HTTP_",
    "HTTPS_",
    "NO_PROXY",
    "ALL_PROXY",
)


def plain_environment(**changes: str) -> dict[str, str]:
    """Return the environment of somebody who has set up nothing: a home, a path, and how to reach the network.

    What is temporary goes where the tests have theirs, and so does not outlive them.
    """
    kept = {
        name: value for name, value in os.environ.items() if name in KEPT or name.upper().startswith(KEPT_BEGINNINGS)
    }
    usual = {name: os.environ[name] for name in ("HOME", "PATH")} | {"TMPDIR": tempfile.gettempdir()}
    return kept | usual | {"UV_SYSTEM_CERTS": "1"} | changes


@dataclass(frozen=True)
class Account:
    """Whom a program runs as: a user and a group, or None for whoever runs the tests."""

    ids: tuple[int, int] | None = None

    @classmethod
    def ordinary(cls) -> "Account":
        """Return the user who runs the tests, or an unprivileged one when that is root."""
        if os.geteuid() != 0:
            return cls()
        entry = pwd.getpwnam(UNPRIVILEGED)
        return cls((entry.pw_uid, entry.pw_gid))

    @property
    def identity(self) -> dict[str, Any]:
        """What `subprocess` has to be told."""
        return {"user": self.ids[0], "group": self.ids[1], "extra_groups": []} if self.ids else {}

    def own(self, folder: Path) -> None:
        """Give a folder and everything in it to the account."""
        if self.ids:
            for path in (folder, *folder.rglob("*")):
                os.chown(path, *self.ids, follow_symlinks=False)


def is_open(folder: Path) -> bool:
    """Say whether every user may enter a folder."""
    folder = folder.resolve()
    return all(path.stat().st_mode & stat.S_IXOTH for path in (folder, *folder.parents))


def make_open_folder(usual: Path) -> Path:
    """Make a temporary folder that every user may enter, in the usual place if that is open."""
    parent = next(folder for folder in (usual, Path("/tmp"), Path("/var/tmp")) if folder.is_dir() and is_open(folder))
    folder = Path(tempfile.mkdtemp(prefix="t-", dir=parent))
    folder.chmod(0o755)
    return folder


def open_interpreter(folder: Path) -> Path:
    """Return a Python that every user may run: this one, or else a copy of it in `folder`.

    What counts is this one's installation, not its environment: what root has below its home is closed to others.
    """
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    installed = Path(sys.base_prefix)
    program = (installed / "bin" / name).resolve()
    if is_open(program.parent):
        return program
    copy = folder / "python"
    needless = shutil.ignore_patterns("site-packages", "test", "tests", "__pycache__", "idlelib", "tkinter", "*.a")
    shutil.copytree(installed / "lib", copy / "lib", symlinks=True, ignore=needless)
    (copy / "bin").mkdir()
    # Where the program looks for its library is written in it: make that the copy's own, at the same length.
    libraries = str(installed / "lib").encode()
    moved = program.read_bytes().replace(libraries, b"$ORIGIN/../lib".ljust(len(libraries), b"\0"))
    (copy / "bin" / name).write_bytes(moved)
    (copy / "bin" / name).chmod(0o755)
    return copy / "bin" / name


def interpreters() -> dict[str, Path]:
    """Return the Pythons from 3.11 on that are installed here, by their version: on the PATH, or kept by pyenv."""
    kept = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser().glob("versions/3.*/bin/python3")
    found = {Path(path) for minor in range(11, 20) if (path := shutil.which(f"python3.{minor}"))} | set(kept)
    versions: dict[str, Path] = {}
    for path in sorted(found):
        question = "import sys; print(*sys.version_info[:2], sep='.', end='')"
        done = subprocess.run([path, "-c", question], capture_output=True, text=True, check=False)
        if done.returncode == 0 and int(done.stdout.partition(".")[2]) >= 11:  # pyenv's shims fail for others.
            versions.setdefault(done.stdout, path)
    return versions


def processes_of(mark: str) -> list[str]:
    """Return the command lines of all processes that have `mark` in their environment, command or working folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            environment = (process / "environ").read_bytes().decode(errors="replace")
            folder = str((process / "cwd").readlink())
        except OSError:  # It has ended meanwhile, or is not ours.
            continue
        if any(mark in text for text in (command, environment, folder)) and int(process.name) != os.getpid():
            found.append(f"{process.name} {command}")
    return found


def run(
    command: list[str | Path],
    folder: Path,
    environment: dict[str, str],
    account: Account | None = None,
    timeout: float = 240,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end and return what it said. Its whole process group goes if it takes too long."""
    identity = (account or Account()).identity
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            **identity,
        ) as process:
            try:
                process.wait(timeout)
            except BaseException:
                with suppress(ProcessLookupError):  # It may have ended just now.
                    os.killpg(process.pid, 9)
                raise
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess(command, process.returncode, out.read(), err.read())
