"""What every response has in common, whichever endpoint it comes from."""

import json
import logging
import re
from logging.config import DictConfigurator

import httpx
import pytest
from fastapi import FastAPI

from app.core.config import Settings
from app.core.logging import logging_config
from app.main import create_app

URL = "postgresql+asyncpg://app:a-long-password@db.internal/app"


def client_for(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test", trust_env=False)


async def test_a_request_gets_an_id(client: httpx.AsyncClient) -> None:
    first, second = await client.get("/health"), await client.get("/health")

    assert len(first.headers["x-request-id"]) == 32
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


async def test_the_callers_id_is_kept(client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers={"X-Request-ID": "from-the-gateway.1"})

    assert response.headers["x-request-id"] == "from-the-gateway.1"


@pytest.mark.parametrize("bad", ["", "a b", "x" * 65, 'inject"ed', "new\tline"])
async def test_an_id_that_could_do_harm_is_replaced(client: httpx.AsyncClient, bad: str) -> None:
    response = await client.get("/health", headers={"X-Request-ID": bad})

    assert len(response.headers["x-request-id"]) == 32


async def test_the_id_is_in_the_log(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    config = logging_config(Settings(environment="test", database_url=URL))
    put_id = config["filters"]["request_id"]["()"]()
    caplog.handler.addFilter(put_id)
    caplog.set_level(logging.INFO, logger="app.request")

    await client.get("/health", headers={"X-Request-ID": "find-me"})

    record = next(record for record in caplog.records if record.name == "app.request")
    assert record.getMessage().startswith("GET /health 200 ")
    assert vars(record)["request_id"] == "find-me"
    assert vars(record)["status"] == 200


def test_a_log_line_is_one_json_object(capfd: pytest.CaptureFixture[str]) -> None:
    config = logging_config(Settings(environment="test", database_url=URL))
    configurator = DictConfigurator(config)
    formatter = configurator.configure_formatter(config["formatters"]["json"])
    record = logging.LogRecord("app.test", logging.INFO, __file__, 1, "hello\n%s", ("world",), None)
    record.request_id = None

    line = json.loads(formatter.format(record))

    assert line["message"] == "hello\nworld"
    assert line["level"] == "INFO"
    assert line["logger"] == "app.test"
    assert line["request_id"] is None
    assert line["time"]


async def test_responses_carry_security_headers(client: httpx.AsyncClient) -> None:
    headers = (await client.get("/health")).headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "strict-transport-security" not in headers


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_a_documentation_page_loads_everything_from_the_service(client: httpx.AsyncClient, page: str) -> None:
    response = await client.get(page)

    assert response.status_code == 200
    assert "script-src 'self'" in response.headers["content-security-policy"]
    loaded = re.findall(r'(?:src|href|spec-url)="([^"]*)"', response.text)
    assert len(loaded) >= 3
    assert {(await client.get(url)).status_code for url in loaded if url.startswith("/")} == {200}
    assert [url for url in loaded if not url.startswith("/")] == []


async def test_answers_are_not_stored(client: httpx.AsyncClient) -> None:
    answers = [await client.get(path) for path in ("/health", "/nowhere")]

    assert [answer.headers["cache-control"] for answer in answers] == ["no-store", "no-store"]


async def test_production_asks_for_https_and_hides_the_documentation() -> None:
    app = create_app(Settings(environment="production", database_url=URL))

    async with client_for(app) as client:
        health, docs, openapi = [await client.get(path) for path in ("/health", "/docs", "/openapi.json")]

    assert "strict-transport-security" in health.headers
    assert (docs.status_code, openapi.status_code) == (404, 404)


async def test_no_foreign_origin_is_allowed_by_default(client: httpx.AsyncClient) -> None:
    response = await client.get("/health", headers={"Origin": "https://elsewhere.example"})

    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://shop.example", "https://shop.example"), ("https://evil.example", None)]
)
async def test_only_the_configured_origins_are_allowed(settings: Settings, origin: str, allowed: str | None) -> None:
    app = create_app(settings.model_copy(update={"cors_origins": ("https://shop.example",)}))

    async with client_for(app) as client:
        response = await client.get("/health", headers={"Origin": origin})

    assert response.headers.get("access-control-allow-origin") == allowed


async def test_a_path_cannot_forge_a_line_of_the_log(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="app.request")

    await client.get("/health%0AGET /admin 200")

    (record,) = (record for record in caplog.records if record.name == "app.request")
    assert "\n" not in record.getMessage()


async def test_there_is_one_address_for_each_resource(client: httpx.AsyncClient) -> None:
    assert (await client.get("/health/")).status_code == 404


async def test_the_log_can_be_quiet(client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="app.request")

    await client.get("/health")

    assert not [record for record in caplog.records if record.name == "app.request"]
