"""A value that passes is one that works, and a message never holds a value."""

import os
import secrets
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from app.auth.config import AuthSettings
from app.core.config import Section, Settings, explain, load
from app.files.config import FileSettings
from tests.harness.server import PROJECT

PASSWORD = "hunter2-hunter2"  # noqa: S105
URL = f"postgresql+asyncpg://app:{PASSWORD}@127.0.0.1:5432/app"


def refusal(section: type[Section] = Settings, **values: Any) -> str:
    with pytest.raises(ValidationError) as error:
        section.model_validate({"environment": "test", "database_url": URL} | values)
    assert "hunter2" not in str(error.value) + explain(error.value)
    assert "\n" not in explain(error.value)
    return explain(error.value)


@pytest.mark.parametrize(
    ("parameter", "advice"),
    [
        ("sslmode=require", "write ssl= with the same value"),
        ("channel_binding=require", "leave it out"),
        ("options=-csearch_path%3Dbilling", "ALTER ROLE"),
        ("application_name=billing", "leave it out"),
        ("connect_timeout=10", "set DB_CONNECT_TIMEOUT"),
        ("sslrootcert=/etc/ca.pem", "PGSSLROOTCERT"),
        ("pgbouncer=true", "DB_BEHIND_PGBOUNCER"),
        ("statement_cache_size=0", "DB_BEHIND_PGBOUNCER"),
        ("password=hunter2", "before the @"),
        ("ssl=always", "ssl"),
        ("ssl=", "without a value"),
        ("ssl", "without a value"),
        ("target_session_attrs=any&ssl=", "without a value"),
        ("host=", "without a value"),
        ("ssl=require&ssl=prefer", "more than once"),
        ("target_session_attrs=any-other", "target_session_attrs"),
        ("max_cacheable_statement_size=3", "max_cacheable_statement_size"),
        ("host=a&host=b", "each needs its port"),
    ],
)
def test_parameters_that_the_driver_does_not_take_are_refused(parameter: str, advice: str) -> None:
    assert advice in refusal(database_url=f"{URL}?{parameter}")


@pytest.mark.parametrize(
    "query",
    ["ssl=require", "ssl=disable", "target_session_attrs=read-write", "host=a:1&host=b:2", "host=/run/postgresql"],
)
def test_parameters_that_the_driver_takes_pass(query: str) -> None:
    assert Settings(environment="test", database_url=f"{URL}?{query}").database.query


def test_a_certificate_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert "PGSSLROOTCERT" in refusal(database_url=f"{URL}?ssl=verify-full")


@pytest.mark.parametrize(
    "variables",
    [
        {"PGSSLMODE": "verify-full"},
        {"PGSSLMODE": "always"},
        {"PGSSLMODE": "require", "PGSSLROOTCERT": "/nonexistent"},
        {"PGTARGETSESSIONATTRS": "fastest"},
    ],
)
def test_variables_that_the_driver_does_not_take_are_refused(
    variables: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ({"HOME": str(tmp_path)} | variables).items():
        monkeypatch.setenv(name, value)

    assert "PGSSLMODE" in refusal()
    assert Settings(environment="test", database_url=f"{URL}?ssl=disable&target_session_attrs=any")


@pytest.mark.parametrize(
    "url",
    [
        "app:hunter2@x/y@db.internal/app",
        "app:hun@ter2hunter2@db.internal/app",
        "app/x:hunter2@db/app",
        "app:hunter2hunter2@db:hunter2/app",
        "app:hunter2@a/b?hunter2=x@db/app",
        "app:hunter2hunter2@db:0/app",
        "app:hunter2hunter2@db:65536/app",
        "app:hunter2hunter2@a:1,b:2/app",
        "app:hunter2hunter2@db/app?port=0",
        "app:hunter2hunter2@db/app?port=65536",
        "app:hunter2hunter2@db:0/app?host=a",
        "app:hunter2hunter2@db/app?host=a:65536",
        "app:hunter2hunter2@db/app?host=a:65536&host=b:1",
        "app:hunter2hunter2@db/app?host=a:1&host=b:0",
        "app:hunter2hunter2@/app",
        "app:hunter2hunter2@db",
        "app:hunter2hunter2@db/",
        "app:hunter2hunter2@db/app ",
        "app:hunter2hunter2@db/app\n",
        "app:hunter2hunter2%00@db/app",
        "app:hunter2hunter2@db/app#x",
        "app:hunter2hunter2@db..internal/app",
    ],
)
def test_a_url_that_leads_nowhere_is_refused(url: str) -> None:
    assert refusal(database_url=f"postgresql+asyncpg://{url}").startswith("DATABASE_URL ")


def test_quotation_marks_around_a_url_are_refused() -> None:
    assert "quotation mark" in refusal(database_url=f'"{URL}"')


@pytest.mark.parametrize("password", ["p%40ss", "p/ss", "p?ss", "p#ss", "p:ss", "p%ss"])
def test_passwords_that_can_be_told_apart_pass(password: str) -> None:
    assert (
        Settings(environment="test", database_url=f"postgresql+asyncpg://app:{password}@db/app").database.host == "db"
    )


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("db_statement_timeout", ["inf", "nan", "1e-9", "0", "2147484"]),
        ("db_lock_timeout", ["1e300", "0.0001"]),
        ("db_idle_in_transaction_timeout", ["1e10"]),
        ("db_pool_timeout", ["inf", "1e20"]),
        ("db_connect_timeout", ["nan", "1e-4"]),
        ("readiness_timeout", ["inf", "0"]),
        ("request_body_timeout", ["inf"]),
        ("shutdown_delay", ["inf", "nan", "-1", "1e20"]),
        ("shutdown_timeout", ["0", "1e30", str(10**30)]),
        ("keep_alive_timeout", ["0", str(10**400)]),
        ("workers", ["0", "100000"]),
        ("db_pool_size", ["0", "1000000"]),
        ("db_max_overflow", ["-1", "1000000"]),
        ("max_request_bytes", ["0", str(2**63)]),
        ("port", ["-1", "65536"]),
        ("log_level", ["LOUD"]),
        ("host", ["http://0.0.0.0", "0.0.0.0:80", "[::1]", "a b"]),
        (
            "cors_origins",
            ["https://a/", "https://a/b", "https://A", "a.example", "https://*.a", "https://a:443", '["https://a"]'],
        ),
        ("cors_origins", ["https://a:65536", "https://a:0", "http://[:::]", "http://999.1.1.1", "app://a:99999"]),
    ],
)
def test_values_that_cannot_work_are_refused(name: str, values: list[str]) -> None:
    for value in values:
        assert refusal(Settings, **{name: value}).startswith(f"{name.upper()} ")


@pytest.mark.parametrize("name", ["s3_endpoint_url", "s3_public_endpoint_url"])
@pytest.mark.parametrize(
    "url", ["http://a:65536", "http://a:0", "http://[:::]", "http://[1.2.3.4]", "http://999.1.1.1", "http://xn--"]
)
def test_a_storage_that_cannot_be_connected_to_is_refused(name: str, url: str) -> None:
    assert refusal(FileSettings, **{name: url}) == f"{name.upper()} has a host or a port that does not exist"


@pytest.mark.parametrize("password", ["postgres", "eleven-long"])
def test_a_weak_password_from_the_environment_is_refused_in_production(
    password: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without = "postgresql+asyncpg://app@db/app"
    monkeypatch.setenv("PGPASSWORD", password)

    assert refusal(environment="production", database_url=without).startswith("PGPASSWORD has an example")
    assert Settings(environment="production", database_url=URL).database.password == PASSWORD
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    assert Settings(environment="production", database_url=without).database.password is None


@pytest.mark.parametrize("secret", ["a" * 32, "abcde" * 7, "01" * 40])
def test_a_secret_of_few_different_characters_is_refused(secret: str) -> None:
    assert refusal(AuthSettings, environment="production", jwt_secret=secret).startswith("JWT_SECRET needs")


@pytest.mark.parametrize("make", [secrets.token_hex, secrets.token_urlsafe, lambda: f"{secrets.randbelow(10**32):032}"])
def test_a_random_secret_passes(make: Callable[[], str]) -> None:
    for _ in range(100):
        assert AuthSettings(environment="production", jwt_secret=SecretStr(make()))


def test_port_0_is_refused_in_production() -> None:
    assert "PORT" in refusal(environment="production", port=0)
    assert Settings(environment="test", database_url=URL, port=0).port == 0


@pytest.mark.parametrize(
    "origin", ["*", "https://a.example", "http://localhost:3000", "capacitor://localhost", "http://[::1]:1"]
)
def test_origins_that_browsers_send_pass(origin: str) -> None:
    assert Settings(environment="test", database_url=URL, cors_origins=(origin,)).cors_origins == (origin,)


@pytest.mark.parametrize("host", ["x86_64-conda-linux-gnu", "arm64-apple-darwin20.0.0", "aarch64-conda-linux-gnu"])
def test_a_host_that_conda_has_set_is_ignored(host: str) -> None:
    assert Settings(environment="test", database_url=URL, host=host).host == "127.0.0.1"


def test_a_level_may_be_in_lower_case() -> None:
    assert (
        Settings.model_validate({"environment": "test", "database_url": URL, "log_level": "info"}).log_level == "INFO"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("access_token_lifetime", "1e300"),
        ("access_token_lifetime", "0.1"),
        ("sign_in_lifetime", "inf"),
        ("sign_in_window", "nan"),
    ],
)
def test_lifetimes_that_no_date_has_are_refused(name: str, value: str) -> None:
    assert refusal(AuthSettings, **{name: value}).startswith(f"{name.upper()} ")


@pytest.mark.parametrize(("username", "password"), [("an owner", "hunter2-hunter2"), ("owner", "hunter2" * 40)])
def test_an_owner_who_could_not_sign_in_is_refused(username: str, password: str) -> None:
    assert "OWNER_" in refusal(AuthSettings, owner_username=username, owner_password=password)


def test_a_secret_is_in_no_repr() -> None:
    assert PASSWORD not in repr(Settings(environment="test", database_url=URL))


def test_what_has_to_be_json_and_is_not_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Tokens(Section):
        partner_tokens: dict[str, str] = {}  # noqa: RUF012

    monkeypatch.setenv("PARTNER_TOKENS", '{"a": hunter2}')
    with pytest.raises(ValidationError) as error:
        load(Tokens)

    assert "partner_tokens" in explain(error.value)
    assert "hunter2" not in f"{explain(error.value)}{error.value}{error.value.__context__}"


@pytest.mark.parametrize(
    ("variables", "dotenv", "words"),
    [
        ({"HOST": "203.0.113.7"}, b"", "HOST is '203.0.113.7', which is not an address"),
        ({"HOST": "nowhere.invalid"}, b"", "HOST is"),
        ({}, b"API_DOCS=t\xe9\n", "The file .env is not in UTF-8"),
        ({"DATABASE_URL": f"{URL}?sslmode=require"}, b"", "sslmode"),
    ],
)
def test_the_service_says_in_a_sentence_what_is_wrong(
    variables: dict[str, str], dotenv: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes(dotenv)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(PROJECT), "ENVIRONMENT": "test", "DATABASE_URL": URL}

    done = subprocess.run(
        [sys.executable, "-m", "app"],
        cwd=tmp_path,
        env=environment | variables,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert "hunter2" not in done.stderr
