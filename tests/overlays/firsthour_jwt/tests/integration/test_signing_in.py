"""Signing in: in development with the account that `make dev` makes, and behind a path prefix."""

import stat
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.config import Settings
from app.main import create_app
from dev import owner

FORM = {"url": "/api/v1/auth/token", "data": {"username": "owner", "password": "wrong-password"}}


@pytest.fixture
def given(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What `make dev` knows when it migrates an empty database."""
    monkeypatch.setattr(owner, "FOLDER", tmp_path / ".secrets")
    monkeypatch.setattr(owner, "has_accounts", no_accounts)
    return {"DATABASE_URL": settings.database_url}


async def no_accounts(_url: str) -> bool:
    return False


async def some_accounts(_url: str) -> bool:
    return True


def test_the_first_password_is_printed_once(
    given: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, said = owner.identity(given), capsys.readouterr().out
    again, said_again = owner.identity(given), capsys.readouterr().out

    assert made == again
    assert made["OWNER_USERNAME"] == "owner"
    assert len(made["OWNER_PASSWORD"]) == 20
    assert made["OWNER_PASSWORD"] in said
    assert made["OWNER_PASSWORD"] not in said_again
    kept = tmp_path / ".secrets" / "owner-password"
    assert str(kept) in said_again
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert (tmp_path / ".secrets" / ".gitignore").read_text() == "*\n"


def test_passwords_differ(given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = owner.identity(given)
    monkeypatch.setattr(owner, "FOLDER", tmp_path / "elsewhere")

    assert owner.identity(given)["OWNER_PASSWORD"] != first["OWNER_PASSWORD"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5"])  # noqa: S104 - nothing listens there
def test_no_account_is_made_where_others_could_sign_in(given: dict[str, str], host: str, tmp_path: Path) -> None:
    assert owner.identity(given | {"HOST": host}) == {}
    assert list(tmp_path.iterdir()) == []


def test_an_account_that_is_named_is_left_alone(given: dict[str, str], tmp_path: Path) -> None:
    assert owner.identity(given | {"OWNER_USERNAME": "me", "OWNER_PASSWORD": "mine"}) == {}
    assert list(tmp_path.iterdir()) == []


def test_a_database_with_accounts_gets_no_other(
    given: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, "has_accounts", some_accounts)

    assert owner.identity(given) == {}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real_db
async def test_accounts_are_found(test_engine: AsyncEngine, client: httpx.AsyncClient) -> None:
    assert client
    url = test_engine.url.render_as_string(hide_password=False)

    assert not await owner.has_accounts(url)


async def test_the_token_url_has_the_prefix(settings: Settings, test_engine: AsyncEngine) -> None:
    app: FastAPI = create_app(settings.model_copy(update={"root_path": "/billing"}), test_engine)
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://test", trust_env=False
    ) as client:
        schemes = (await client.get("/openapi.json")).json()["components"]["securitySchemes"]

    assert schemes["OAuth2PasswordBearer"]["flows"]["password"] == {
        "tokenUrl": "/billing/api/v1/auth/token",
        "refreshUrl": "/billing/api/v1/auth/refresh",
        "scopes": {},
    }


async def test_private_answers_are_not_stored(client: httpx.AsyncClient, authed_client: httpx.AsyncClient) -> None:
    answers = [
        await authed_client.get("/api/v1/users/me"),
        await client.get("/api/v1/users/me"),
        await client.post(**FORM),
        await client.post("/api/v1/projects", content=b"{"),
    ]

    assert [answer.headers.get_list("cache-control") for answer in answers] == [["no-store"]] * 4


async def test_the_redirect_page_of_authorize_may_run_its_script(client: httpx.AsyncClient) -> None:
    response = await client.get("/docs/oauth2-redirect")

    assert response.status_code == 200
    assert "'sha256-" in response.headers["content-security-policy"]
