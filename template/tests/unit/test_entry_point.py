"""What `python -m app` hands to the server, and how the engine is made."""

from collections.abc import Generator
from typing import Any

import pytest
import uvicorn
from sqlalchemy.pool import AsyncAdaptedQueuePool, NullPool
from starlette.types import Message

from app import __main__ as entry_point
from app.core.config import Settings, load
from app.core.db import create_engine
from app.main import create_app

URL = "postgresql+asyncpg://app:a-long-password@db.internal/app"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Generator[dict[str, Any]]:
    """What the server is told."""
    served: dict[str, Any] = {}

    def configure(app: str, **options: object) -> None:
        served.update(app=app, **options)

    def serve(_config: None, delay: float) -> int:
        served.update(delay=delay)
        return 0

    monkeypatch.setattr(uvicorn, "Config", configure)
    monkeypatch.setattr(entry_point, "serve", serve)
    monkeypatch.setenv("DATABASE_URL", URL)
    load.cache_clear()
    yield served
    load.cache_clear()


@pytest.mark.parametrize(
    ("environment", "reload", "delay", "timeout"), [("production", False, 5, 20), ("development", True, 0, 1)]
)
def test_only_development_reloads_and_stops_at_once(
    served: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    environment: str,
    reload: bool,
    delay: float,
    timeout: int,
) -> None:
    monkeypatch.setenv("ENVIRONMENT", environment)
    monkeypatch.setenv("PORT", "8123")
    monkeypatch.setattr(entry_point, "sections", list)  # What features need is tested with them.

    assert entry_point.main() == 0

    assert served["app"] == "app.main:create_app"
    assert (served["host"], served["port"], served["reload"]) == ("127.0.0.1", 8123, reload)
    assert (served["timeout_keep_alive"], served["timeout_graceful_shutdown"], served["delay"]) == (65, timeout, delay)
    assert served["server_header"] is False


def test_bad_settings_are_explained(
    served: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKERS", "none")

    assert entry_point.main() == 2

    assert "WORKERS Input should be a valid integer" in capsys.readouterr().err
    assert not served


def test_the_engine_has_its_time_outs() -> None:
    engine = create_engine(Settings(database_url=URL, db_pool_size=3, db_statement_timeout=1.5))

    pool = engine.pool
    assert isinstance(pool, AsyncAdaptedQueuePool)
    assert pool.size() == 3
    _, arguments = engine.dialect.create_connect_args(engine.url)
    assert arguments["host"] == "db.internal"


def test_behind_pgbouncer_nothing_outlives_a_transaction() -> None:
    engine = create_engine(Settings(database_url=URL, db_behind_pgbouncer=True))

    assert isinstance(engine.pool, NullPool)


async def test_middleware_leaves_alone_what_is_no_http() -> None:
    """A server announces the start of the application through the same door as requests."""
    app = create_app(Settings(environment="test", database_url=URL))
    sent: list[Message] = []
    steps = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])

    async def receive() -> Message:
        return next(steps)

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)

    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_the_settings_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", URL)
    load.cache_clear()

    assert load(Settings) is load(Settings)

    load.cache_clear()
