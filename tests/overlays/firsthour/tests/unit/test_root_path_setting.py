"""ROOT_PATH is refused where it could not work."""

import pytest
from pydantic import ValidationError

from app.core.config import Settings

URL = "postgresql+asyncpg://app:a-long-password@db.internal/app"


@pytest.mark.parametrize("value", ["", "/billing", "/teams/billing", "/v1.2", "/api/billing", "/healthy"])
def test_a_prefix_is_accepted(value: str) -> None:
    assert Settings(database_url=URL, root_path=value).root_path == value


@pytest.mark.parametrize(
    "value", ["billing", "/billing/", "/", "//billing", "/a b", "/..", "/a/../b", "/a?b", "/a'b", "https://a/b", "/a\n"]
)
def test_what_is_no_prefix_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="must begin with a slash and not end with one"):
        Settings(database_url=URL, root_path=value)


@pytest.mark.parametrize("value", ["/api", "/api/v1", "/health", "/docs", "/redoc"])
def test_a_prefix_that_the_services_own_paths_have_is_refused(value: str) -> None:
    with pytest.raises(ValidationError, match="choose another prefix"):
        Settings(database_url=URL, root_path=value)


@pytest.mark.parametrize(("environment", "timeout"), [("production", 20), ("test", 20), ("development", 1)])
def test_only_development_stops_in_a_second(environment: str, timeout: int) -> None:
    assert Settings(database_url=URL, environment=environment).shutdown_timeout == timeout  # type: ignore[arg-type]
    assert Settings(database_url=URL, environment=environment, shutdown_timeout=7).shutdown_timeout == 7  # type: ignore[arg-type]
