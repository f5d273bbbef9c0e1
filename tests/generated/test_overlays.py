"""Tests of the rendered service's own plumbing that are not rendered: they are copied onto a render and run there.

Each folder in `tests/overlays/` is laid out like a rendered project. Its `overlay.yml` names the answers that it needs
and its removals: mechanisms that are taken out of the service one at a time, each of which turns one of its tests red;
`shares` lists files that it takes from another overlay.
"""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import yaml

from tests.answers import Answers
from tests.generated.changes import Change
from tests.generated.conftest import MakeService
from tests.generated.service import Service
from tests.template import ROOT

pytestmark = pytest.mark.timeout(900)

OVERLAYS = {path.parent.name: path.parent for path in sorted((ROOT / "tests" / "overlays").glob("*/overlay.yml"))}
SETTINGS = {
    name: yaml.safe_load((folder / "overlay.yml").read_text(encoding="utf-8")) for name, folder in OVERLAYS.items()
}
PATIENCE = 800
"""For how many seconds the tests of one overlay may run."""


@dataclass(frozen=True)
class Removal(Change):
    """A mechanism that is taken out, and the name of the test that has to fail."""

    red: str = ""


REMOVALS = {
    (overlay, name): Removal(**details)
    for overlay, settings in SETTINGS.items()
    for name, details in settings.get("removals", {}).items()
}


def lay_over(name: str, make_service: MakeService) -> tuple[Service, list[str], Answers]:
    """Render a service with an overlay on it. Returns also the overlay's tests, and the answers."""
    folder, answers = OVERLAYS[name], SETTINGS[name].get("needs", {})
    service = replace(make_service(**answers), patience=PATIENCE)
    ignored = shutil.ignore_patterns("overlay.yml", "__pycache__")
    shutil.copytree(folder, service.project, dirs_exist_ok=True, ignore=ignored)
    tests = [str(path.relative_to(folder)) for path in folder.rglob("test_*.py")]
    for path, owner in SETTINGS[name].get("shares", {}).items():
        shutil.copy(OVERLAYS[owner] / path, service.project / path)
        tests.append(path)
    return service, sorted(tests), answers


def run_tests(service: Service, tests: list[str], *options: str) -> subprocess.CompletedProcess[str]:
    """Run an overlay's tests, those that are not run by default included."""
    return service.pytest("-m", "", *options, *tests)


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_tests_of_an_overlay_are_green(name: str, make_service: MakeService) -> None:
    service, tests, _ = lay_over(name, make_service)

    done = run_tests(service, tests)

    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert re.search(r"\d+ passed", done.stdout)
    assert not re.search(r"\d+ (skipped|xfailed|xpassed|error|warning)", done.stdout), done.stdout[-4000:]


@pytest.mark.validate
@pytest.mark.parametrize(("overlay", "name"), REMOVALS, ids=lambda part: part)
def test_a_removed_mechanism_turns_an_overlay_red(
    overlay: str, name: str, make_service: MakeService, record_property: Callable[[str, object], None]
) -> None:
    record_property("drill", f"{overlay}: {name}")
    removal = REMOVALS[overlay, name]
    service, tests, answers = lay_over(overlay, make_service)
    removal.make(service.project, answers)

    done = run_tests(service, tests, "-x", "-k", removal.red)

    assert done.returncode != 0, "no test failed"
    assert re.search(rf"(?m)^(FAILED|ERROR) \S+{re.escape(removal.red)}", done.stdout), done.stdout[-8000:]
