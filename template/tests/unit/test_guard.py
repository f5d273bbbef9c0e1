"""No test ever touches a database that may hold real data."""

import pytest

from tests.harness.server import HarnessError, named_server

POSTGRES = "postgresql+asyncpg://me@localhost/postgres"


def refusal(**environ: str) -> str:
    with pytest.raises(HarnessError) as error:
        named_server(environ)
    return str(error.value)


def test_without_a_url_the_embedded_server_is_used() -> None:
    assert named_server({}) is None
    assert named_server({"TEST_DATABASE_URL": ""}) is None


@pytest.mark.parametrize("variable", ["TEST_DATABASE_URL", "DATABASE_URL"])
@pytest.mark.parametrize("url", ["sqlite+aiosqlite:///test.db", "postgresql://me@localhost/test", "nonsense"])
def test_only_asyncpg_will_do(variable: str, url: str) -> None:
    assert refusal(**{variable: url}).startswith("Integration tests require postgresql+asyncpg://")


def test_the_url_for_tests_comes_first() -> None:
    url = named_server({"TEST_DATABASE_URL": POSTGRES, "DATABASE_URL": "sqlite+aiosqlite:///x.db"})

    assert url is not None
    assert url.database == "postgres"


@pytest.mark.parametrize("name", ["shop", "latest", "contest_prod", "attestations"])
def test_the_database_of_the_service_is_refused(name: str) -> None:
    assert f"'{name}', which does not say that it is for tests" in refusal(
        DATABASE_URL=f"postgresql+asyncpg://me@localhost/{name}"
    )


@pytest.mark.parametrize("name", ["test", "shop_test", "tests-of-shop", "Test2"])
def test_a_database_whose_name_says_that_it_is_for_tests_is_accepted(name: str) -> None:
    assert named_server({"DATABASE_URL": f"postgresql+asyncpg://me@localhost/{name}"}) is not None


def test_a_refusal_does_not_repeat_a_password() -> None:
    assert "hunter2" not in refusal(TEST_DATABASE_URL="postgresql://me:hunter2@localhost/test")
