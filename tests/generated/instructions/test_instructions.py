"""Whatever a page tells its reader to run works, and so does what `make help` offers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from uv import find_uv_bin

from tests.answers import EVERYTHING, Answers
from tests.containers.stack import free_ports
from tests.generated.instructions.reading import OTHER, SHELL, Instruction, instructions_of, languages, pages_of
from tests.generated.postgres import Server
from tests.generated.service import Toolbox
from tests.generated.updates.project import commit
from tests.processes import make_open_folder, plain_environment, processes_of, run
from tests.template import NEWEST, ROOT, git, release_template, render

pytestmark = pytest.mark.timeout(600)

STARTING = 120
ENDING = 60
PASSWORD = "of-the-tests-own-making"  # noqa: S105

PROJECTS: dict[str, Answers] = {
    "everything": EVERYTHING,
    "the rest": {"example": False, "auth": "api_key", "object_storage": True, "ci": "gitlab"},
}
"""Projects whose pages have, together, all that any page has."""
WAYS: dict[str, dict[str, dict[str, Any]]] = yaml.safe_load(
    Path(__file__).with_name("instructions.yml").read_text(encoding="utf-8")
)
QUICK = {"PYTEST_ADDOPTS": "--cov-fail-under=0 tests/integration/test_health.py"}


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this repository that has released the checkout as it is now."""
    return release_template(tmp_path_factory.mktemp("instructions") / "copier-fastapi-postgres")


@pytest.fixture(scope="session")
def read_projects(released: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The projects, to read only."""
    folder = tmp_path_factory.mktemp("read")
    return {name: render(released, folder / name / "my-service", NEWEST, **PROJECTS[name]) for name in PROJECTS}


def share(name: str, projects: dict[str, Path]) -> list[Instruction]:
    """Return what is run in one of the projects: its blocks, and what else is not said in the ones after it as well."""
    later = list(projects)[list(projects).index(name) + 1 :]
    said = {one.name for other in later for one in instructions_of(projects[other])}
    return [one for one in instructions_of(projects[name]) if one.in_block or one.name not in said]


@dataclass
class Walk:
    """A reader who does what the pages say, one after the other."""

    start: Path
    ways: dict[str, dict[str, Any]]
    variables: dict[str, str]
    settings: dict[str, dict[str, str]]
    before: Callable[[], None]
    ran: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def follow(self, instructions: list[Instruction]) -> None:
        """Run all that is not named as an exception."""
        for instruction in instructions:
            way = self.ways.get(instruction.name, {})
            if "why" not in way:
                self.before()
                self.run(way.get("as", instruction.command), way, instruction)

    def note(self, record_property: Callable[[str, object], None]) -> None:
        """Note each of them, for what is said at the end of the tests."""
        for instruction in self.ran:
            record_property("instruction", instruction)

    def run(self, command: str, way: dict[str, Any], instruction: Instruction) -> None:
        """Run one command. If it does not work, note that and what it said."""
        environment = self.variables | {"PORT": free_ports(1)[0]}
        for name in way.get("with", []):
            environment |= self.settings[name]
        folder = self.start / instruction.folder
        if not folder.is_dir():
            said = f"There is no folder {instruction.folder}."
        elif way.get("serves"):
            said = serve(command, folder, environment)
        else:
            done = run(["sh", "-c", command], folder, environment)
            said = f"Exit code {done.returncode}: {done.stdout[-4000:]}{done.stderr[-4000:]}" if done.returncode else ""
        if said:
            self.failed.append(f"{instruction.place}: {instruction.command}\n{said}")
        self.ran.append(f"{command} ({instruction.place})")


def serve(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Start a server, see that it answers, and stop it as Ctrl-C does in a terminal. Returns what it said if not."""
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            ["sh", "-c", command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            answered = answers(process, f"http://127.0.0.1:{environment['PORT']}/health")
            with suppress(ProcessLookupError):  # It may have ended by itself.
                os.killpg(process.pid, signal.SIGINT)
            process.wait(ENDING)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        log.seek(0)
        said = log.read()
    return "" if answered and "Traceback" not in said else f"It did not answer, or not end well:\n{said[-8000:]}"


def answers(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until a server answers with success. False if it ends before, or takes too long."""
    until = time.monotonic() + STARTING
    while process.poll() is None and time.monotonic() < until:
        with suppress(httpx.TransportError):  # It is not up yet.
            if httpx.get(url, trust_env=False).status_code == 200:
                return True
        time.sleep(0.1)
    return False


@pytest.fixture
def folder(workshop: Path) -> Iterator[Path]:
    """A folder for one walk, with a place for what is temporary: nothing is left there, and nothing runs on."""
    folder = make_open_folder(workshop)
    temporary = folder / "tmp"
    temporary.mkdir(mode=0o755)
    try:
        yield folder
        own = ("uv-*.lock", "pytest-of-*")  # What uv never removes, and pytest only when there are more.
        left = [path.name for path in temporary.iterdir() if not any(map(path.match, own))]
        assert left + processes_of(str(folder)) == []
    finally:
        for line in processes_of(str(folder)):
            os.kill(int(line.split()[0]), signal.SIGKILL)
        shutil.rmtree(folder)


@pytest.fixture
def variables(folder: Path, toolbox: Toolbox) -> Iterator[dict[str, str]]:
    """The environment of a reader who has uv and git, with a name in git. Nobody changes what is installed in it."""
    programs = folder / "bin"
    programs.mkdir()
    for name in ("uv", "uvx"):
        (programs / name).symlink_to(Path(find_uv_bin()).with_name(name))
    identity = {f"GIT_{who}_{what}": "x@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    usual = plain_environment(**toolbox.variables)
    before = installed(toolbox)
    own = {
        "PATH": f"{programs}:{usual['PATH']}",
        "TMPDIR": str(folder / "tmp"),
        "PREK_HOME": str(folder / "prek"),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    yield usual | identity | own
    assert installed(toolbox) == before


def installed(toolbox: Toolbox) -> list[str]:
    """Return what is installed in the environment that the tests share."""
    return sorted(path.name for path in toolbox.python.parent.parent.glob("lib/python*/site-packages/*-info"))


def own_environment(folder: Path) -> dict[str, str]:
    """Return the settings of an environment that nobody else uses."""
    return {"UV_NO_SYNC": "false", "UV_PROJECT_ENVIRONMENT": str(folder / "environment")}


@contextmanager
def production(toolbox: Toolbox, server: Server) -> Iterator[dict[str, str]]:
    """Yield the settings of a service in production: a database, a secret and an object storage."""
    server.run(f"CREATE ROLE production LOGIN PASSWORD '{PASSWORD}'", "CREATE DATABASE production OWNER production")
    with subprocess.Popen(
        [toolbox.python, "-m", "dev.object_store"],
        cwd=toolbox.project,
        env=plain_environment(**toolbox.variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as store:
        assert store.stdout
        try:
            yield json.loads(store.stdout.readline()) | {
                "ENVIRONMENT": "production",
                "DATABASE_URL": server.url("production", "production", PASSWORD),
                "JWT_SECRET": "Zm9yIHRoZSB0ZXN0cyBvZiB0aGUgaW5zdHJ1Y3Rpb25z",
            }
        finally:
            store.communicate(timeout=30)  # It lives until its input ends.
            server.run("DROP DATABASE production WITH (FORCE)", "DROP ROLE production")


@pytest.mark.parametrize("name", PROJECTS)
def test_what_the_pages_of_a_project_say_works(
    name: str,
    released: Path,
    read_projects: dict[str, Path],
    folder: Path,
    variables: dict[str, str],
    toolbox: Toolbox,
    own_server: Server,
    record_property: Callable[[str, object], None],
) -> None:
    project = render(released, folder / "my-service", NEWEST, **PROJECTS[name])
    git(project, "init", "--quiet")
    databases = own_server.databases()
    with production(toolbox, own_server) as settings:
        server = {"TEST_DATABASE_URL": own_server.url()}
        choices = {"quick": QUICK, "server": server, "own": own_environment(folder), "production": settings}
        # As the pages ask for it where it matters.
        walk = Walk(project, WAYS["service"], variables, choices, lambda: commit(project, "Work"))
        try:
            walk.follow(share(name, read_projects))
        finally:
            own_server.drop_all_but(databases | {"production"})
    walk.note(record_property)
    assert walk.failed == []
    assert len(walk.ran) >= 10


def test_what_the_page_and_the_help_of_the_template_say_works(
    released: Path, folder: Path, variables: dict[str, str], record_property: Callable[[str, object], None]
) -> None:
    checkout = Path(shutil.copytree(released, folder / "template", symlinks=True))
    (checkout / ".venv").symlink_to(sys.prefix)
    status = ("status", "--porcelain", "--", ".", ":!my-service")
    before = git(checkout, *status)
    choices = {"quick": QUICK, "own": own_environment(folder)}
    walk = Walk(checkout, WAYS["template"], variables, choices, lambda: None)
    walk.follow(instructions_of(checkout))
    assert walk.failed == []
    git(checkout, "restore", "requirements")  # There may be something newer.

    assert git(checkout, *status) == before
    walk.note(record_property)
    assert len(walk.ran) >= 10


def test_what_does_not_work_is_told_with_its_page_and_line(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("help:\n\t@echo '  make broken  Break'\nbroken:\n\t@echo Broken.; exit 1\n")
    (tmp_path / "README.md").write_text(
        "# Title\n\n```console\n$ mkdir -p a/b\n$ cd a\n$ test -d b\n```\n\n"
        "```sh\n# Not where the last block went.\ntest -d b\n```\n\n`make serve` serves, `make left-out` does not.\n"
    )
    ways = {"make serve": {"as": "echo Gone.", "serves": True}, "make left-out": {"why": "It is left out."}}
    walk = Walk(tmp_path, ways, plain_environment(), {}, lambda: None)
    walk.follow(instructions_of(tmp_path))

    assert [what.partition("\n")[0] for what in walk.failed] == [
        "README.md:9: test -d b",
        "README.md: make serve",
        "make help: make broken",
    ]
    assert "Gone." in walk.failed[1]
    assert "Broken." in walk.failed[2]
    assert len(walk.ran) == 5


def test_no_block_is_in_a_language_that_nobody_reads(read_projects: dict[str, Path]) -> None:
    for project in (ROOT, *read_projects.values()):
        assert {language for page in pages_of(project) for language in languages(page)} <= SHELL | OTHER


def test_nothing_is_named_that_no_page_says_any_more(read_projects: dict[str, Path]) -> None:
    said = {
        "service": {one.name for project in read_projects.values() for one in instructions_of(project)},
        "template": {one.name for one in instructions_of(ROOT)},
    }
    assert {group: set(ways) - said[group] for group, ways in WAYS.items()} == {"service": set(), "template": set()}


@pytest.mark.parametrize(
    ("file", "words"),
    [(file, words) for ways in WAYS.values() for way in ways.values() for file, words in way.get("seen", {}).items()],
)
def test_what_is_not_run_here_is_seen_elsewhere(file: str, words: str) -> None:
    assert words in (ROOT / file).read_text(encoding="utf-8")


def test_whatever_is_not_run_here_has_a_reason_and_a_place() -> None:
    for ways in WAYS.values():
        for way in ways.values():
            assert ("why" in way) == ("seen" in way)
            assert "why" not in way or way.keys() == {"why", "seen"}
