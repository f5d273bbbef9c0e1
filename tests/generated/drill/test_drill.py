"""The drill: a service is broken on purpose, and its own `make check` has to turn red, and say why."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.generated.changes import Change
from tests.generated.conftest import MakeService
from tests.generated.service import Service

# One for each kind of guard: `make test` tries these, and `make validate` all.
EVERY_TIME = {
    "a model without a migration",
    "a commit after the response",
    "a test that leaks a row",
    "routes that a tag opens",
    "a blocking call in a handler",
    "wrong types",
}
TARGETS = {"lint": "lint", "typecheck": "typecheck"}
"""Who notices -> the part of `make check` that fails; for everybody else it is that with the tests."""


@dataclass(frozen=True)
class Breakage(Change):
    """One way to break a service, with the fields that breakages.yml explains."""

    environment: dict[str, str] = field(default_factory=dict)
    red: dict[str, str] = field(default_factory=dict)


BREAKAGES = {
    name: Breakage(**details)
    for name, details in yaml.safe_load(Path(__file__).with_name("breakages.yml").read_text(encoding="utf-8")).items()
}


def try_first(service: Service, test: str) -> dict[str, str]:
    """Let the run begin with a test, and end if that fails: all the others would only take their time."""
    cache = service.project / ".pytest_cache" / "v" / "cache"
    cache.mkdir(parents=True)
    (cache / "lastfailed").write_text(json.dumps({test: True}))
    return {"PYTEST_ADDOPTS": "--failed-first --exitfirst"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in EVERY_TIME else [pytest.mark.validate]) for name in BREAKAGES]
)
def test_it_is_noticed(name: str, make_service: MakeService, record_property: Callable[[str, object], None]) -> None:
    record_property("drill", name)
    breakage = BREAKAGES[name]
    ((who, words),) = breakage.red.items()
    service = make_service(**breakage.needs)
    breakage.make(service.project, breakage.needs)
    options = try_first(service, who) if "::" in who else {}

    done = service.make("check", **breakage.environment, **options)

    said = done.stdout + done.stderr
    print(said)  # For whoever has to find out why this test fails.
    assert done.returncode != 0, "nobody has noticed"
    assert re.search(rf": {TARGETS.get(who, 'test-cov')}\] Error", done.stderr)
    assert words in said
    if "::" in who:
        assert re.search(rf"(?m)^(FAILED|ERROR) {re.escape(who)}( - |$)", done.stdout)


def test_the_breakages_of_every_time_exist() -> None:
    assert set(BREAKAGES) > EVERY_TIME
