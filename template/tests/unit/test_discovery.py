"""A folder under `app/` takes part by being there."""

import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from fastapi import FastAPI

import app as package
from app.core.config import Section, load
from app.core.discovery import feature_modules, routers, sections
from app.main import create_app
from tests.harness.settings import HermeticSettings

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


@pytest.fixture
def feature(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Generator[Path]:
    """A feature in a folder of its own, beside those in `app/`."""
    folder = tmp_path / "weather"
    folder.mkdir()
    (folder / "__init__.py").touch()
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

    assert "/weather" in paths(create_app(HermeticSettings(environment="test", database_url=URL)))


def test_settings_are_found_and_checked(feature: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEATHER_STATION", raising=False)

    with pytest.raises(ValueError, match="weather_station"):
        create_app(HermeticSettings(environment="test", database_url=URL))


def test_a_feature_that_is_gone_is_not_missed() -> None:
    assert "/weather" not in paths(create_app(HermeticSettings(environment="test", database_url=URL)))


def test_the_core_is_no_feature() -> None:
    names = [module.__name__ for module in feature_modules("config")]

    assert "app.core.config" not in names
    assert Section not in list(sections())


def test_the_health_check_is_a_feature() -> None:
    assert "/health" in [router.prefix for router in routers()]
