"""Settings are checked before anything starts, and say what is wrong without repeating a secret."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.core.config import Section, Settings, explain
from app.core.discovery import sections
from dev.example_settings import variables_of
from tests.harness.server import PROJECT
from tests.harness.settings import documented

URL = "postgresql+asyncpg://app:a-long-password@db.internal/app"


@pytest.fixture(autouse=True)
def unset_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ENVIRONMENT")


def refusal(**values: Any) -> str:
    with pytest.raises(ValidationError) as error:
        Settings(**values)
    return explain(error.value)


def test_the_safest_environment_is_the_default() -> None:
    settings = Settings(database_url=URL)

    assert settings.environment == "production"
    assert settings.host == "127.0.0.1"
    assert not settings.api_docs


def test_development_shows_the_documentation() -> None:
    assert Settings(environment="development", database_url=URL).api_docs


def test_a_missing_url_is_named() -> None:
    assert refusal() == "DATABASE_URL Field required"


@pytest.mark.parametrize("url", ["postgresql://app@db/app", "sqlite+aiosqlite:///x.db", "nonsense", ""])
def test_only_asyncpg_will_do(url: str) -> None:
    assert refusal(database_url=url) == "DATABASE_URL must be a URL that begins with postgresql+asyncpg://"


def test_a_refused_url_is_not_repeated() -> None:
    assert "hunter2" not in refusal(database_url="postgresql://app:hunter2@db/app")


@pytest.mark.parametrize("password", ["", "postgres", "change-me", "a-password-of-its-own", "eleven-long"])
def test_production_refuses_a_password_that_is_short_or_an_example(password: str) -> None:
    assert "example password" in refusal(database_url=f"postgresql+asyncpg://app:{password}@db/app")


def test_production_refuses_the_password_that_is_documented() -> None:
    assert "example password" in refusal(database_url=documented()["DATABASE_URL"])


def test_an_example_password_will_do_elsewhere() -> None:
    settings = Settings(environment="test", database_url="postgresql+asyncpg://app:postgres@db/app")

    assert settings.database.password == "postgres"


def test_the_password_is_hidden_when_the_url_is_printed() -> None:
    assert "a-long-password" not in str(Settings(database_url=URL).database)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("environment", "staging"),
        ("port", 70000),
        ("workers", 0),
        ("log_level", "LOUD"),
        ("max_request_bytes", 0),
        ("db_pool_size", 0),
        ("db_pool_timeout", 0),
        ("db_statement_timeout", -1),
    ],
)
def test_a_value_out_of_range_is_named(name: str, value: Any) -> None:
    assert refusal(database_url=URL, **{name: value}).startswith(name.upper())


def test_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", URL)
    monkeypatch.setenv("CORS_ORIGINS", "https://a.example, https://b.example")
    monkeypatch.setenv("DB_POOL_SIZE", "3")
    monkeypatch.setenv("LOG_LEVEL", "")

    settings = Settings()

    assert settings.cors_origins == ("https://a.example", "https://b.example")
    assert settings.db_pool_size == 3
    assert settings.log_level == "INFO"


def test_values_come_from_the_env_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(Settings.model_config, "env_file", ".env")
    (tmp_path / ".env").write_text(f"DATABASE_URL={URL}\n")

    assert Settings().database_url == URL


def test_a_feature_may_have_a_section_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    class MailSettings(Section):
        mail_sender: str

    monkeypatch.setenv("MAIL_SENDER", "me@example.com")

    assert MailSettings().mail_sender == "me@example.com"


def test_every_setting_is_documented() -> None:
    known = {variable for section in [Settings, *sections()] for variable in variables_of(section)}

    assert known - {*documented(), *documented(".env.example")} == set()


def test_the_values_of_the_example_file_are_accepted() -> None:
    given: dict[str, Any] = {"database_url": URL}
    given |= {name.lower(): value for name, value in documented(".env.example").items()}

    assert Settings(**given).database.drivername == "postgresql+asyncpg"


@pytest.mark.slow
def test_the_service_does_not_start_with_bad_settings(tmp_path: Path) -> None:
    environment = {"DATABASE_URL": "postgresql://app:hunter2@db/app", "PORT": "many", "PYTHONPATH": str(PROJECT)}

    done = subprocess.run(
        [sys.executable, "-m", "app"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "The service cannot start with these settings:"
    assert "DATABASE_URL must be a URL that begins with postgresql+asyncpg://" in done.stderr
    assert "PORT Input should be a valid integer" in done.stderr
    assert "Traceback" not in done.stderr
    assert "hunter2" not in done.stderr
