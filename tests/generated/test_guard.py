"""A test run never begins on a database that is not for tests."""

import socket

import pytest

from tests.generated.postgres import Server
from tests.generated.service import Service

Servers = tuple[Service, Server]


def assert_one_sentence(output: str, sentence: str) -> None:
    lines = [line for line in output.splitlines() if sentence in line]
    assert len(lines) == 1, output
    assert "Traceback" not in output
    assert "passed" not in output


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("TEST_DATABASE_URL", "sqlite+aiosqlite:///x.db"),
        ("TEST_DATABASE_URL", "postgresql://postgres@localhost/app_test"),
        ("TEST_DATABASE_URL", "postgresql+psycopg://postgres@localhost/app_test"),
        ("TEST_DATABASE_URL", "not a url"),
        ("DATABASE_URL", "sqlite+aiosqlite:///x.db"),
        ("DATABASE_URL", "postgresql://postgres@localhost/app_test"),
    ],
)
def test_another_kind_of_database_is_refused_before_anything_is_collected(
    variable: str, url: str, service: Service
) -> None:
    done = service.pytest(**{variable: url})

    output = done.stdout + done.stderr
    assert done.returncode == 1
    assert_one_sentence(output, "Integration tests require postgresql+asyncpg://")
    assert "collected" not in output
    assert not (service.project / "x.db").exists()


def test_a_server_that_does_not_answer_is_named_in_one_sentence(service: Service) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    done = service.pytest(TEST_DATABASE_URL=f"postgresql+asyncpg://app:secret@127.0.0.1:{port}/app_test")

    assert done.returncode == 1
    assert_one_sentence(done.stdout + done.stderr, f"No PostgreSQL answers at 127.0.0.1:{port}")
    assert "secret" not in done.stdout + done.stderr


def test_a_wrong_password_is_explained_in_one_sentence(service: Service, own_server: Server) -> None:
    own_server.run("CREATE ROLE guarded LOGIN CREATEDB PASSWORD 'right'")
    own_server.ask_for_password("guarded")
    done = service.pytest(TEST_DATABASE_URL=own_server.url(user="guarded", password="wrong"))  # noqa: S106

    assert done.returncode == 1
    assert_one_sentence(done.stdout + done.stderr, "password authentication failed")


def test_a_role_that_may_not_create_databases_is_told_so(service: Service, own_server: Server) -> None:
    own_server.run("CREATE ROLE powerless LOGIN")
    done = service.pytest(TEST_DATABASE_URL=own_server.url(user="powerless"))

    assert done.returncode == 1
    assert_one_sentence(done.stdout + done.stderr, "ALTER ROLE powerless CREATEDB")


def test_a_database_that_does_not_exist_is_named_in_one_sentence(service: Service, own_server: Server) -> None:
    done = service.pytest(TEST_DATABASE_URL=own_server.url("nowhere_test"))

    assert done.returncode == 1
    assert_one_sentence(done.stdout + done.stderr, 'database "nowhere_test" does not exist')


def test_a_database_that_does_not_say_it_is_for_tests_is_left_alone(service: Service, own_server: Server) -> None:
    own_server.run("CREATE DATABASE production")
    own_server.run("CREATE TABLE accounts AS SELECT 1 AS id", database="production")
    before = own_server.databases()
    done = service.pytest(DATABASE_URL=own_server.url("production"))

    assert done.returncode == 1
    assert_one_sentence(done.stdout + done.stderr, "'production', which does not say that it is for tests")
    assert own_server.databases() == before
    assert own_server.rows("SELECT relname FROM pg_stat_user_tables", "production") == [("accounts",)]
    own_server.run("DROP DATABASE production")


@pytest.mark.parametrize("instead", ["", "{} = function\n"], ids=["removed", "narrowed"])
@pytest.mark.parametrize("scope", ["asyncio_default_fixture_loop_scope", "asyncio_default_test_loop_scope"])
def test_the_suite_is_red_without_either_loop_scope(scope: str, instead: str, service: Service) -> None:
    configuration = service.project / "pytest.ini"
    line = f"{scope} = session\n"
    text = configuration.read_text()
    assert line in text
    configuration.write_text(text.replace(line, instead.format(scope)))
    done = service.pytest("tests/integration", "-x")

    assert done.returncode in {1, 3}
    assert "loop" in done.stdout + done.stderr
