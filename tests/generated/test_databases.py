"""What the generated tests do on a server that is not their own."""

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.generated.conftest import MakeService
from tests.generated.postgres import Server
from tests.generated.service import Service

PREFIX = "my_service"


@pytest.fixture
def found(own_server: Server) -> Iterator[set[str]]:
    """The databases that were there before; one of them is somebody's, and named in the URL."""
    own_server.run("CREATE DATABASE somebodys_test")
    own_server.run("CREATE TABLE accounts AS SELECT 1 AS id", database="somebodys_test")
    found = own_server.databases()
    yield found
    own_server.drop_all_but(found - {"somebodys_test"})


def template_of(names: set[str]) -> str:
    (name,) = names
    assert name.startswith(f"{PREFIX}_template_")
    return name


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["one process", "two workers"])
def test_the_suite_leaves_what_it_found_and_its_template(
    arguments: tuple[str, ...], service: Service, own_server: Server, found: set[str]
) -> None:
    done = service.pytest(*arguments, TEST_DATABASE_URL=own_server.url("somebodys_test"))

    assert done.returncode == 0, done.stdout
    assert template_of(own_server.databases() - found) in done.stdout
    assert own_server.rows("SELECT relname FROM pg_stat_user_tables", "somebodys_test") == [("accounts",)]
    assert own_server.rows("SELECT id FROM accounts", "somebodys_test") == [(1,)]


def test_what_a_killed_run_left_goes_with_the_next_one(service: Service, own_server: Server, found: set[str]) -> None:
    url = own_server.url("somebodys_test")
    killed = service.start_pytest(TEST_DATABASE_URL=url)
    try:
        until = time.monotonic() + 60
        while not any(name.startswith(f"{PREFIX}_test_") and name.endswith("_main") for name in own_server.databases()):
            assert killed.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(0.5)
    finally:
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    assert {name for name in own_server.databases() if name.startswith(f"{PREFIX}_test_")}
    done = service.pytest("tests/integration/test_health.py", TEST_DATABASE_URL=url)

    assert done.returncode == 0, done.stdout
    template_of(own_server.databases() - found)


def test_two_runs_at_once_do_not_disturb_each_other(service: Service, own_server: Server, found: set[str]) -> None:
    url = own_server.url("somebodys_test")
    runs = [service.start_pytest("tests/integration/test_health.py", TEST_DATABASE_URL=url) for _ in range(3)]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    template_of(own_server.databases() - found)


def test_a_role_that_may_only_create_databases_is_enough(service: Service, own_server: Server, found: set[str]) -> None:
    own_server.run("CREATE ROLE modest LOGIN CREATEDB")
    done = service.pytest("tests/integration", TEST_DATABASE_URL=own_server.url("somebodys_test", user="modest"))

    assert done.returncode == 0, done.stdout
    template_of(own_server.databases() - found)


def test_an_older_template_is_replaced(make_service: MakeService, own_server: Server, found: set[str]) -> None:
    service = make_service()
    url = own_server.url("somebodys_test")
    first = service.pytest("tests/integration/test_health.py", TEST_DATABASE_URL=url)
    old = template_of(own_server.databases() - found)
    environment = service.project / "alembic" / "env.py"
    environment.write_text(environment.read_text() + "# Changed.\n")
    second = service.pytest("tests/integration/test_health.py", TEST_DATABASE_URL=url)

    assert (first.returncode, second.returncode) == (0, 0), second.stdout
    assert template_of(own_server.databases() - found) != old


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_migration_that_fails_is_said_once(workers: str, make_service: MakeService) -> None:
    service = make_service(example=True)
    migration = service.project / "alembic" / "versions" / "0001_projects_and_tasks.py"
    text = migration.read_text(encoding="utf-8")
    migration.write_text(text.replace('"""Apply the change."""', 'op.drop_table("nothing")'), encoding="utf-8")

    done = service.pytest("tests/integration", "-n", workers)

    assert done.returncode != 0
    assert "alembic/versions/0001_projects_and_tasks.py:" in done.stdout
    assert 'table "nothing" does not exist' in done.stdout
    assert done.stdout.count("ERROR at setup") <= max(int(workers), 1)
    assert len(done.stdout.splitlines()) < 50, done.stdout
