"""A folder under `app/` takes part by being there."""

import sys
from collections.abc import Generator
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

import app as package
from app.core.config import Section, Settings, load
from app.core.discovery import feature_modules, routers, sections
from app.main import create_app
from tests.harness.client import running

URL = "postgresql+asyncpg://me@localhost/none"

ROUTER = """
from fastapi import APIRouter

router = APIRouter(prefix="/weather")

@router.get("")
async def weather() -> str:
    return "fine"
"""

CONFIG = """
from app.core.config import Section

class WeatherSettings(Section):
    weather_station: str
"""

LIFESPAN = """
from contextlib import asynccontextmanager

@asynccontextmanager
async def lifespan(app):
    app.state.weather = "fine"
    yield
    app.state.weather = "over"
"""

GUARD = """
from fastapi import Depends, HTTPException

def refuse():
    raise HTTPException(418)

def guard(route):
    return [Depends(refuse)] if route.path == "/health" else []
"""


@pytest.fixture
def feature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A feature in a separate folder beside those in `app/`, with no `__init__.py`."""
    folder = tmp_path / "weather"
    folder.mkdir()
    (folder / "router.py").write_text(ROUTER)
    (folder / "config.py").write_text(CONFIG)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    yield folder
    for name in [name for name in sys.modules if name.startswith("app.weather")]:
        del sys.modules[name]
    load.cache_clear()


def paths(app: FastAPI) -> set[str]:
    return set(app.openapi()["paths"])


def test_a_router_is_found(feature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER_STATION", "Zugspitze")

    assert "/weather" in paths(create_app(Settings(environment="test", database_url=URL)))


def test_settings_are_found_and_checked(feature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEATHER_STATION", raising=False)

    with pytest.raises(ValueError, match="weather_station"):
        create_app(Settings(environment="test", database_url=URL))


async def test_a_guard_watches_the_routes_of_all_features(feature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER_STATION", "Zugspitze")
    (feature / "guard.py").write_text(GUARD)
    transport = httpx.ASGITransport(app=create_app(Settings(environment="test", database_url=URL)))

    async with httpx.AsyncClient(transport=transport, base_url="http://test", trust_env=False) as client:
        statuses = [(await client.get(path)).status_code for path in ("/health", "/weather")]

    assert statuses[0] == 418
    assert statuses[1] != 418


async def test_a_feature_has_its_part_in_the_services_life(feature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEATHER_STATION", "Zugspitze")
    (feature / "lifespan.py").write_text(LIFESPAN)

    async with running(create_app(Settings(environment="test", database_url=URL))) as app:
        assert app.state.weather == "fine"

    assert app.state.weather == "over"


def test_a_feature_that_is_gone_is_not_missed() -> None:
    assert "/weather" not in paths(create_app(Settings(environment="test", database_url=URL)))


def test_the_core_is_no_feature() -> None:
    names = [module.__name__ for module in feature_modules("config")]

    assert "app.core.config" not in names
    assert Section not in list(sections())


def test_the_health_check_is_a_feature() -> None:
    assert "/health" in [router.prefix for router in routers()]
