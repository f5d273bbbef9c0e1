"""`make demo`: a service from nothing, and nothing of it afterwards."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from uv import find_uv_bin

from tests.processes import make_open_folder, plain_environment, processes_of
from tests.template import ROOT

DEMO = [sys.executable, "tools/demo.py"]
STARTING = 120
ENDING = 60


class Demo:
    """A demo that was started, with a folder of its own for all that is temporary."""

    def __init__(self, folder: Path) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.temporary.chmod(0o755)
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a command as a terminal would: in the foreground, with a process group of its own."""
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=plain_environment(
                    TMPDIR=str(self.temporary), PATH=f"{os.environ['PATH']}:{Path(find_uv_bin()).parent}"
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until something holds."""
        until = time.monotonic() + STARTING
        while not condition():
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.1)

    def left(self) -> list[str]:
        """Return what is left: files in the temporary folder, but for uv's own, and processes."""
        files = [
            path.name for path in self.temporary.iterdir() if not path.match("uv-*.lock")
        ]  # uv never removes these.
        return files + processes_of(str(self.temporary))

    def clean(self) -> None:
        """End whatever still runs."""
        for line in processes_of(str(self.temporary)):
            os.kill(int(line.split()[0]), signal.SIGKILL)


@pytest.fixture
def demo() -> Iterator[Demo]:
    folder = make_open_folder(Path(tempfile.gettempdir()))
    demo = Demo(folder)
    yield demo
    demo.clean()
    shutil.rmtree(folder)


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refused(*command: str, **variables: str) -> str:
    """Run a demo that cannot be given. Returns its one line of explanation."""
    with tempfile.TemporaryDirectory() as temporary:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=plain_environment(TMPDIR=temporary) | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert list(Path(temporary).iterdir()) == []
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert done.returncode != 0
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_it_serves_until_ctrl_c_and_leaves_nothing(demo: Demo, port: int) -> None:
    process = demo.start("make", "demo", f"PORT={port}")
    demo.wait_for(lambda: "The service runs." in demo.log.read_text())
    said = demo.log.read_text()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
        assert client.get("/health").status_code == 200
        assert client.get("/health/ready").status_code == 200
        assert client.get("/docs").status_code == 200
        created = client.post("/api/v1/projects", json={"name": "Apollo"})
        assert created.status_code == 201
        assert client.get(created.headers["Location"]).json()["name"] == "Apollo"
        assert [project["name"] for project in client.get("/api/v1/projects").json()["items"]] == ["Apollo"]
    assert f"http://127.0.0.1:{port}/docs" in said
    assert f"curl -X POST http://127.0.0.1:{port}/api/v1/projects" in said
    assert "it is removed when you stop" in said
    os.killpg(process.pid, signal.SIGINT)
    process.wait(ENDING)

    assert demo.left() == []
    assert "Traceback" not in demo.log.read_text()


def test_it_keeps_the_service_in_dest_with_the_answers_in_data(demo: Demo, port: int) -> None:
    kept = demo.temporary.parent / "new" / "big-service"
    data = "project_name='Big \"$HOME\" Service' example=false"
    process = demo.start(*DEMO, f"--dest={kept}", f"--port={port}", f"--data={data}")
    demo.wait_for(lambda: "The service runs." in demo.log.read_text())
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10) as client:
        assert client.get("/openapi.json").json()["info"]["title"] == 'Big "$HOME" Service'
        assert client.get("/api/v1/projects").status_code == 404
    os.killpg(process.pid, signal.SIGINT)

    assert process.wait(ENDING) == 0
    assert "curl" not in demo.log.read_text()
    assert (kept / "app" / "main.py").is_file()
    assert not (kept / "app" / "projects").exists()
    assert demo.left() == []
    assert processes_of(str(kept)) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", [".venv", ".postgres"], ids=["it installs", "PostgreSQL starts"])
def test_it_leaves_nothing_when_it_is_stopped_while(moment: str, number: signal.Signals, demo: Demo, port: int) -> None:
    process = demo.start(*DEMO, f"--port={port}")
    demo.wait_for(lambda: list(demo.temporary.glob(f"demo-*/my-service/{moment}")))
    process.send_signal(number)

    assert process.wait(ENDING) == 128 + number
    assert demo.left() == []


def test_it_leaves_nothing_when_it_is_terminated_while_it_serves(demo: Demo, port: int) -> None:
    process = demo.start(*DEMO, f"--port={port}")
    demo.wait_for(lambda: "The service runs." in demo.log.read_text())
    process.terminate()

    assert process.wait(ENDING) == 128 + signal.SIGTERM
    assert demo.left() == []


def test_a_taken_port_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert refused("make", "demo", f"PORT={port}").startswith(f"Cannot listen on port {port}: ")


@pytest.mark.parametrize("port", ["0", "65536", "-1", "http", "80 00", "٣"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    assert refused("make", "demo", f"PORT={port}").startswith(f"PORT={port} is not a port")


def test_a_destination_that_is_not_empty_is_refused_and_left_alone(tmp_path: Path, port: int) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    assert "is not empty" in refused("make", "demo", f"DEST={tmp_path}", f"PORT={port}")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_destination_that_is_a_file_is_refused(tmp_path: Path, port: int) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    assert "is not a folder" in refused("make", "demo", f"DEST={tmp_path}/mine.txt", f"PORT={port}")
    assert "is not a folder" in refused("make", "demo", f"DEST={tmp_path}/mine.txt/below", f"PORT={port}")
    assert (tmp_path / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("unknown=1", "'unknown', which the template does not ask"),
        ("_subdirectory=x", "'_subdirectory', which the template does not ask"),
        ("example", "write key=value"),
        ("project_name=Two words", "write key=value"),
        ("project_name='Never closed", "no closing quotation"),
        ("example=perhaps", "example is true or false"),
        ("license=GPL", "Invalid choice for 'license'"),
        ("project_slug='Not A Slug'", "Use lower-case letters"),
        ("project_name=''", "must not be empty"),
    ],
)
def test_bad_data_is_refused(data: str, words: str, tmp_path: Path, port: int) -> None:
    destination = tmp_path / "service"

    assert words in refused(*DEMO, f"--dest={destination}", f"--port={port}", f"--data={data}")
    assert list(tmp_path.iterdir()) == []


def test_data_arrives_through_make_as_it_was_typed(port: int) -> None:
    line = refused("make", "demo", f"PORT={port}", """DATA=license='$(shell id) $$ `id` "$HOME"'""")
    assert """'$(shell id) $$ `id` "$HOME"' is not in""" in line


@pytest.mark.parametrize("program", ["git"])
def test_a_missing_program_is_named(program: str, tmp_path: Path, port: int) -> None:
    for folder in map(Path, os.environ["PATH"].split(":")):
        for path in folder.glob("*"):
            if not path.name.startswith(program) and not (tmp_path / path.name).is_symlink():
                (tmp_path / path.name).symlink_to(path)

    assert refused("make", "demo", f"PORT={port}", PATH=str(tmp_path)) == (
        f"{program} is missing: install it and run make again."
    )


def test_a_python_that_is_too_old_is_named(port: int) -> None:
    assert "Python 3.11 or newer is needed" in refused("make", "demo", f"PORT={port}", "PYTHON=false")
