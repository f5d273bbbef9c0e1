"""No secret gets into the image by accident. Within the image itself there is nothing to look at."""

import re
from fnmatch import fnmatch

import pytest

from tests.harness.server import PROJECT

SECRET = re.compile(r"\w*(?:SECRET|PASSWORD|TOKEN|KEY|DATABASE_URL)\w*(?==|\s|$)", re.IGNORECASE)


def instructions(name: str) -> list[str]:
    """Return the lines of a file that say something, each together with those that go on with it."""
    path = PROJECT / name
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    lines = text.replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


@pytest.mark.parametrize("name", [".env", ".env.production", ".git"])
def test_it_is_kept_out(name: str) -> None:
    """The allow-list does not name it, and no later rule lets it in."""
    rules = instructions(".dockerignore")
    fitting = [rule for rule in rules if fnmatch(name, rule.removeprefix("!").removeprefix("**/"))]

    assert not rules or (fitting and not fitting[-1].startswith("!"))


def test_no_secret_is_written_into_it() -> None:
    """Whoever has the image could read it."""
    settings = [line for line in instructions("Dockerfile") if line.partition(" ")[0].upper() in ("ARG", "ENV")]

    assert [line for line in settings if SECRET.search(line)] == []
