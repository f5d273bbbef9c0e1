"""The settings of accounts and tokens. Durations are in seconds."""

import secrets
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, PositiveInt, SecretStr, model_validator

from app.auth.strength import is_guessable
from app.core.config import EXAMPLE_PASSWORDS, SHORTEST_PASSWORD, Seconds, Section

SHORTEST_SECRET = 32
FEWEST_CHARACTERS = 6
"""How many different characters a secret has at least. Of 32 random digits, one in 17 million has fewer."""
LONGEST_PASSWORD = 200
"""That of the form to sign in with."""
EXAMPLE_SECRETS = frozenset({"at-least-32-characters-of-your-own"})
Lifetime = Annotated[Seconds, Field(le=10 * 365 * 24 * 3600)]
"""A duration of up to ten years: with much more, there is no date when it ends."""
DEVELOPMENT_SECRETS = Path(__file__).parent.parent.parent / ".secrets"


def require_text(secret: SecretStr) -> SecretStr:
    """Refuse halves of characters, which `SecretStr` lets through and UTF-8 has no bytes for.

    Raises:
        ValueError: there are some.
    """
    try:
        secret.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode text") from None
    return secret


Secret = Annotated[SecretStr, AfterValidator(require_text)]


class AuthSettings(Section):
    """How people sign in, and for how long."""

    jwt_secret: Secret = SecretStr("")
    access_token_lifetime: Annotated[Lifetime, Field(ge=1)] = 15 * 60
    sign_in_lifetime: Lifetime = 30 * 24 * 3600
    sign_in_attempts: Annotated[PositiveInt, Field(le=1_000_000)] = 5
    sign_in_window: Lifetime = 15 * 60
    owner_username: str = Field("", max_length=100, pattern=r"^\s*([A-Za-z0-9][A-Za-z0-9._@+-]*)?\s*$")
    owner_password: Secret = SecretStr("")

    @model_validator(mode="before")
    @classmethod
    def _make_secret(cls, values: dict[str, object]) -> dict[str, object]:
        if values.get("jwt_secret") or values.get("environment", "production") == "production":
            return values
        secret = development_secret() if values["environment"] == "development" else secrets.token_urlsafe()
        return values | {"jwt_secret": secret}

    @model_validator(mode="after")
    def _refuse_weak_secrets(self) -> Self:
        secret, password = self.jwt_secret.get_secret_value(), self.owner_password.get_secret_value()
        if len(secret) < SHORTEST_SECRET or len({*secret}) < FEWEST_CHARACTERS or secret in EXAMPLE_SECRETS:
            raise ValueError(
                f"JWT_SECRET needs at least {SHORTEST_SECRET} random characters of its own: "
                'python -c "import secrets; print(secrets.token_urlsafe())" makes some'
            )
        if bool(self.owner_username) != bool(password):
            raise ValueError("OWNER_USERNAME and OWNER_PASSWORD belong together: set both, or none")
        if password and not self.owner_username.strip():
            raise ValueError("OWNER_USERNAME is blank")
        if len(password) > LONGEST_PASSWORD:
            raise ValueError(f"OWNER_PASSWORD has over {LONGEST_PASSWORD} characters, which no form takes")
        weak = password in EXAMPLE_PASSWORDS or len(password) < SHORTEST_PASSWORD
        if password and weak and self.environment == "production":
            raise ValueError(
                f"OWNER_PASSWORD is an example or has under {SHORTEST_PASSWORD} characters: choose another"
            )
        if password and self.environment == "production" and is_guessable(password, self.owner_username):
            raise ValueError("OWNER_PASSWORD is too easy to guess: it is common, or much like the username")
        return self


def development_secret() -> str:
    """Return this machine's own secret, made at the first start and kept out of git."""
    path = DEVELOPMENT_SECRETS / "jwt"
    secret = secrets.token_urlsafe()
    with suppress(OSError):  # Where nothing can be written, as in a container, there is another one at each start.
        DEVELOPMENT_SECRETS.mkdir(mode=0o700, exist_ok=True)
        (DEVELOPMENT_SECRETS / ".gitignore").write_text("*\n")
        mine = DEVELOPMENT_SECRETS / secrets.token_hex(8)
        mine.touch(mode=0o600)
        mine.write_text(secret)
        with suppress(FileExistsError):
            path.hardlink_to(mine)  # So nobody finds half a secret, and of two that start at once one is first.
        mine.unlink()
        return path.read_text()
    return secret
