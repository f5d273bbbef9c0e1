"""A rendered service that is run as its developer would run it."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from tests.processes import Account, open_interpreter, plain_environment, run


@dataclass(frozen=True)
class Toolbox:
    """An environment with everything that any rendered service needs, which every user may use."""

    project: Path
    python: Path
    variables: dict[str, str]


def make_toolbox(project: Path, folder: Path) -> Toolbox:
    """Install what a rendered service asks for."""
    programs = folder / "bin"
    programs.mkdir()
    shutil.copy2(find_uv_bin(), programs / "uv")
    variables = {
        "PATH": f"{programs}:{plain_environment()['PATH']}",
        "UV_PROJECT_ENVIRONMENT": str(folder / "environment"),
        "UV_PYTHON": str(open_interpreter(folder)),
    }
    command: list[str | Path] = [programs / "uv", "sync", "--quiet"]
    done = run(command, project, plain_environment(**variables))
    if done.returncode:
        raise RuntimeError(f"uv sync failed:\n{done.stderr}")
    # From here on the environment is complete, and `uv run` is to take it as it is.
    return Toolbox(project, folder / "environment" / "bin" / "python", variables | {"UV_NO_SYNC": "1"})


@dataclass(frozen=True)
class Service:
    """A rendered project, the environment it runs in, and whom it runs as."""

    project: Path
    toolbox: Toolbox
    account: Account
    patience: float = 240
    """For how many seconds a target may run."""

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the variables that its programs get."""
        usual = plain_environment(**self.toolbox.variables)
        if self.account.ids:
            usual["HOME"] = str(self.project.parent)
        return usual | variables

    def make(self, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run one of its make targets."""
        return run(["make", target], self.project, self.environment(**variables), self.account, self.patience)

    def pytest(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run its tests."""
        command: list[str | Path] = [self.toolbox.python, "-m", "pytest", *arguments]
        return run(command, self.project, self.environment(**variables), self.account, self.patience)

    def start_pytest(self, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """Start its tests, in a process group of their own."""
        return subprocess.Popen(
            [self.toolbox.python, "-m", "pytest", *arguments],
            cwd=self.project,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **self.account.identity,
        )
