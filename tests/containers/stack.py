"""A rendered service whose containers run on a real Docker engine."""

import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.processes import plain_environment, run
from tests.template import git, render

CANARY = "a-secret-that-must-not-be-in-an-image"
PORTS = ("PORT", "POSTGRES_PORT", "S3_PORT")


def docker(*arguments: str | Path) -> str:
    """Run Docker. Returns its output."""
    done = run(["docker", *arguments], Path.cwd(), environment(), timeout=600)
    assert done.returncode == 0, f"docker {arguments}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


def inspect(name: str) -> dict[str, Any]:
    """Return all that Docker knows of a container or an image."""
    return json.loads(docker("inspect", name))[0]


def environment(**variables: str) -> dict[str, str]:
    """Return the variables of somebody who has Docker and has set up nothing else."""
    engine = {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}
    return plain_environment(**engine | variables)


def free_ports(number: int) -> list[str]:
    """Return ports that nobody listens on."""
    with ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [str(one.getsockname()[1]) for one in sockets]


@dataclass(frozen=True)
class Stack:
    """A project, and the names and ports of what it runs."""

    project: Path
    answers: dict[str, Any]
    ports: dict[str, str]

    @property
    def name(self) -> str:
        """What Compose calls it."""
        return str(self.answers["project_slug"])

    @property
    def image(self) -> str:
        """The image of the service."""
        return f"{self.name}:dev"

    @property
    def url(self) -> str:
        """Where the service is reached."""
        return f"http://127.0.0.1:{self.ports['PORT']}"

    def get(self, path: str) -> httpx.Response:
        """Ask the service for something."""
        return httpx.get(self.url + path, trust_env=False)

    def sign_in(self) -> dict[str, str]:
        """Return the headers with which a request may change things."""
        form = {"username": "owner", "password": CANARY}
        answer = httpx.post(f"{self.url}/api/v1/auth/token", data=form, trust_env=False)
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    def hide_secrets(self) -> None:
        """Put secrets where developers have them, and in places where they should not."""
        git(self.project, "init", "--quiet")
        git(self.project, "config", "user.password", CANARY)
        for name in (".env", ".env.production", "app/.env", "app/.env.local", "tests/.env", "secrets.txt", "key.pem"):
            (self.project / name).write_text(f"OWNER_USERNAME=owner\nOWNER_PASSWORD={CANARY}\n")

    def make(self, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run one of its make targets."""
        return run(["make", target], self.project, environment(**self.ports | variables), timeout=600)

    def start(self, target: str) -> "subprocess.Popen[bytes]":
        """Start one of its make targets, as a terminal would: with a process group of its own."""
        return subprocess.Popen(
            ["make", target],
            cwd=self.project,
            env=environment(**self.ports),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def build(self, target: str) -> str:
        """Build a stage of its image. Returns the id."""
        label = f"com.docker.compose.project={self.name}"
        return docker("build", "--quiet", f"--target={target}", f"--label={label}", self.project).strip()

    def password(self) -> str:
        """Return the password that was made for its servers."""
        lines = (self.project / ".env").read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith("STACK_PASSWORD="))

    def container(self, service: str) -> dict[str, Any]:
        """Return what Docker knows of the container of one of its services."""
        return inspect(f"{self.name}-{service}-1")

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return what Docker knows of its containers, by the name of the service."""
        found = [inspect(container) for container in self.owned("ps", "--all")]
        return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}

    def owned(self, *listing: str, suffix: str = "") -> list[str]:
        """Return the ids of what Docker has of it: containers, volumes, networks or images."""
        label = f"label=com.docker.compose.project={self.name}{suffix}"
        return docker(*listing, "--quiet", "--filter", label).split()

    def all_of_the_tests(self) -> list[str]:
        """Return the containers, volumes and networks of its tests' stack."""
        listings = [("ps", "--all"), ("volume", "ls"), ("network", "ls")]
        return [one for listing in listings for one in self.owned(*listing, suffix="-test")]

    def remove(self) -> None:
        """Remove everything that Docker has of it and of its tests."""
        for suffix in ("", "-test"):
            for listing, removal in (
                (("ps", "--all"), ("rm", "--force", "--volumes")),
                (("volume", "ls"), ("volume", "rm")),
                (("network", "ls"), ("network", "rm")),
                (("image", "ls", "--all"), ("image", "rm", "--force")),
            ):
                if owned := self.owned(*listing, suffix=suffix):
                    docker(*removal, *dict.fromkeys(owned))


@contextmanager
def rendered(template: Path, name: str, answers: dict[str, Any]) -> Iterator[Stack]:
    """Yield a service of which nothing runs yet. Nothing is left of it afterwards, nor of a run that was killed."""
    answers = answers | {"project_slug": f"template-test-{name}"}
    with tempfile.TemporaryDirectory(prefix="containers-") as folder:
        project = render(template, Path(folder) / "my-service", **answers)
        stack = Stack(project, answers, dict(zip(PORTS, free_ports(len(PORTS)), strict=True)))
        stack.remove()
        try:
            yield stack
        finally:
            stack.remove()
