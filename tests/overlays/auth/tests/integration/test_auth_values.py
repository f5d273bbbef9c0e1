"""Names, passwords and tokens that pass validation and could fail in a later layer."""

import base64
import json
import logging
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
import time_machine
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from app.auth import passwords, service, strength
from app.auth.config import AuthSettings
from app.auth.models import Role, User
from app.core.config import load
from tests.fixtures.auth import PASSWORD, MakeUser, SignedIn
from tests.integration.test_auth import ME, REFRESH, TOKEN, forge, me, renew, sign_in, try_password

USERS = "/api/v1/users"
GOOD = "another long password"
ODD = ["\ud800", "a\udfffb", "\x00", "a\x00b", "\ufffe", "\u202e", "💩" * 3, "x" * 100_000, "\n", "İ" * 100]


@pytest.fixture
async def owner(make_user: MakeUser, signed_in: SignedIn) -> httpx.AsyncClient:
    return await signed_in(await make_user(role=Role.OWNER))


def send(client: httpx.AsyncClient, method: str, path: str, value: Any) -> Any:
    """Send JSON in ASCII, which can have halves of characters."""
    content = json.dumps(value).encode()
    return client.request(method, path, content=content, headers={"Content-Type": "application/json"})


@pytest.mark.parametrize("text", ODD, ids=ascii)
async def test_odd_texts_are_never_an_error_of_the_service(
    client: httpx.AsyncClient, owner: httpx.AsyncClient, text: str
) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    raw = "".join(f"%{byte:02X}" for byte in text.encode("utf-8", "surrogatepass")[:600])
    responses = [
        await send(owner, "POST", USERS, {"username": text, "password": GOOD}),
        await send(owner, "POST", USERS, {"username": "ada", "password": text + GOOD}),
        await send(owner, "POST", USERS, {"username": "ada2", "password": GOOD, "role": text}),
        await send(owner, "PUT", f"{ME}/password", {"current_password": text, "new_password": GOOD}),
        await send(owner, "PUT", f"{ME}/password", {"current_password": "wrong", "new_password": text + GOOD}),
        await send(client, "POST", REFRESH, {"refresh_token": text}),
        await client.post(TOKEN, content=f"username={raw}&password=x", headers=form),
        await client.post(TOKEN, content=f"username=ada&password={raw}", headers=form),
        await client.get(ME, headers={b"Authorization": b"Bearer " + text.encode("latin-1", "ignore")[:5000]}),
    ]

    assert [response.status_code for response in responses if response.status_code >= 500] == []


@pytest.mark.parametrize("claim", ["sub", "sid", "jti", "use", "exp", "iat", "nbf", "aud", "iss"])
@pytest.mark.parametrize(
    "value", [0, -1, 1.5, 1e300, 10**400, True, [], {}, [[]], "", "x", "\ud800", "\x00", "0" * 5000], ids=ascii
)
async def test_odd_claims_are_no_token(client: httpx.AsyncClient, user: User, claim: str, value: Any) -> None:
    tokens = await sign_in(client, user)
    changes: dict[str, Any] = {claim: value}
    try:
        access, refresh = (forge(tokens[kind], **changes) for kind in ("access_token", "refresh_token"))
    except (TypeError, UnicodeEncodeError):  # PyJWT makes no such token; others do.
        key = load(AuthSettings).jwt_secret.get_secret_value()
        claims = jwt.decode(tokens["access_token"], options={"verify_signature": False}) | changes
        access = refresh = signed(claims, key)

    for response in (await me(client, access), await renew(client, refresh)):
        assert response.status_code < 500


def signed(claims: object, key: str) -> str:
    return jwt.api_jws.PyJWS().encode(json.dumps(claims).encode(), key, "HS256")


@pytest.mark.parametrize("payload", [b"", b"[]", b"null", b"\xff", b"1e999", b'{"exp": Infinity}', b"[" * 4000])
async def test_odd_payloads_are_no_token(client: httpx.AsyncClient, payload: bytes) -> None:
    key = load(AuthSettings).jwt_secret.get_secret_value()

    assert (await me(client, jwt.api_jws.PyJWS().encode(payload, key, "HS256"))).status_code == 401


@pytest.mark.parametrize(
    "head", [b"[" * 30_000, b'{"a":' * 10_000, b"null", b'{"alg": []}', b'{"alg": "HS256", "crit": 1}', b"\xff"]
)
async def test_odd_heads_are_no_token(client: httpx.AsyncClient, head: bytes) -> None:
    """Which is read before the signature is verified, so that anybody can send it."""
    token = base64.urlsafe_b64encode(head).rstrip(b"=").decode() + ".e30.AAAA"

    assert (await me(client, token)).status_code == 401


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("ada", "P@ssword1234"),
        ("ada", "qwertyuiop12"),
        ("ada", "123456789012"),
        ("ada", "aaaaaaaaaaaa"),
        ("ada", "iloveyou2024"),
        ("ada", "passwordpassword"),
        ("ada", "adaadaadaada"),
        ("ada.lovelace", "ada.lovelace"),
        ("ada.lovelace", "Ada.Lovelace1"),
        ("ada.lovelace", "ADALOVELACE2024"),
        ("ada@example.com", "ada@example.com!"),
        ("christopher.montgomery@example.com", "christopher.montgomery@example.com"),
        ("christopher.montgomery@example.com", "1christopher.montgomery@example.com1"),
    ],
)
def test_a_password_can_be_guessed(username: str, password: str) -> None:
    assert strength.is_guessable(password, username)


@pytest.mark.parametrize(
    "password",
    [PASSWORD, GOOD, "the-old-password-1", "Sommerregen auf Dach", "kJ8#mNq2vX!p", "a" * 40 + "kJ8#mNq2vX"],
)
def test_other_passwords_will_do(password: str) -> None:
    assert not strength.is_guessable(password, "ada.lovelace")


def test_only_the_ends_of_a_password_are_examined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Substitutions are tried in all combinations, which takes seconds for a long password of punctuation."""
    examined: list[str] = []

    def watched(password: str, names: list[str]) -> dict[str, Any]:
        examined.append(password)
        return {"guesses": 10**12}

    monkeypatch.setattr("zxcvbn.zxcvbn", watched)

    assert not strength.is_guessable("4@8({[<369&#!iI1|0$5+7%2xz" * 7, "ada.lovelace")
    assert examined
    assert max(map(len, examined)) == strength.EXAMINED


# ---------------------------------------------------------------- the log


def events(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return what was logged since the last time."""
    records = [record for record in caplog.records if record.name == "app.security"]
    caplog.clear()
    assert all(vars(record)["client"] == "127.0.0.1" for record in records)
    return [(vars(record)["event"], vars(record)["result"]) for record in records]


async def test_security_events_are_logged(
    client: httpx.AsyncClient, make_user: MakeUser, signed_in: SignedIn, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "app.security")
    owner = await signed_in(await make_user(role=Role.OWNER))
    first = (await owner.post(USERS, json={"username": "ada", "password": GOOD})).json()
    assert events(caplog) == [("account_created", "ok")]
    tokens = (await try_password(client, "ada", GOOD)).json()
    assert events(caplog) == [("sign_in", "ok")]
    await try_password(client, "ada", "wrong")
    assert events(caplog) == [("sign_in", "failed")]
    with time_machine.travel(datetime.now(UTC), tick=False):
        for _ in range(6):
            await try_password(client, "nobody", "wrong")
    assert events(caplog) == [("sign_in", "failed")] * 5 + [("sign_in", "slowed")]
    client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
    assert (await client.post(USERS, json={"username": "eve", "password": GOOD})).status_code == 403
    assert events(caplog) == [("request", "forbidden")]
    await client.put(f"{ME}/password", json={"current_password": "wrong", "new_password": GOOD + "!"})
    assert events(caplog) == [("password_change", "failed")]
    await renew(client, tokens["refresh_token"])
    await renew(client, tokens["refresh_token"])
    assert events(caplog) == [("refresh", "reused")]
    tokens = (await try_password(client, "ada", GOOD)).json()
    client.headers["Authorization"] = f"Bearer {tokens['access_token']}"
    await client.put(f"{ME}/password", json={"current_password": GOOD, "new_password": GOOD + "!"})
    assert events(caplog) == [("sign_in", "ok"), ("password_change", "ok")]
    await owner.patch(f"{USERS}/{first['id']}", json={"role": "reader"})
    await owner.delete(f"{USERS}/{first['id']}")
    await owner.post("/api/v1/auth/logout")
    assert events(caplog) == [("role_changed", "ok"), ("account_deleted", "ok"), ("sign_out", "ok")]


async def test_what_was_rolled_back_is_not_logged(db_session: AsyncSession, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "app.security")

    await service.sign_out(db_session, uuid4())
    await db_session.rollback()
    await db_session.execute(select(User))
    await db_session.commit()

    assert caplog.records == []


async def test_an_event_has_no_secret(client: httpx.AsyncClient, user: User, caplog: pytest.LogCaptureFixture) -> None:
    """Some type their password into the field of the name."""
    caplog.set_level(logging.DEBUG)

    tokens = await sign_in(client, user)
    await try_password(client, PASSWORD, PASSWORD)
    await try_password(client, user.username, "a wrong secret")
    await renew(client, tokens["refresh_token"])
    await renew(client, tokens["refresh_token"])

    said = " ".join(f"{vars(record)}" for record in caplog.records if record.name.startswith("app"))
    for secret in (PASSWORD, "a wrong secret", *tokens.values()):
        assert str(secret) not in said or secret in {"bearer", 900}


async def test_the_owners_name_takes_as_much_work_as_any(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while there are no accounts: no name can be found out by how long an answer takes."""
    own = load(AuthSettings)
    settings = own.model_copy(update={"owner_username": "owner", "owner_password": own.jwt_secret})
    monkeypatch.setattr(service, "load", {AuthSettings: settings}.__getitem__)
    work: list[str] = []
    real = passwords.HASHER

    class Watched:
        def hash(self, password: str) -> str:
            work.append("hash")
            return real.hash(password)

        def verify(self, password_hash: str, password: str) -> bool:
            work.append("verify")
            return real.verify(password_hash, password)

    await try_password(client, "warm-up", "wrong")
    monkeypatch.setattr(passwords, "HASHER", Watched())

    for name in ("owner", "somebody"):
        assert (await try_password(client, name, "wrong")).status_code == 401

    assert work == ["verify", "verify"]
