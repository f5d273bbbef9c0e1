"""What a rendered service says of itself when everything around it fails: its fault tests, and its fuzzing."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.answers import EVERYTHING, Answers
from tests.generated.changes import Change
from tests.generated.conftest import MakeService
from tests.generated.service import Service
from tests.generated.test_checks import assert_green

pytestmark = pytest.mark.timeout(900)
LONGEST = 800

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
# Whoever runs the tests need not have it; .ci/run installs it.
WITHOUT_PGBOUNCER = "" if PGBOUNCER else "--ignore=tests/faults/test_pgbouncer.py"
ANSWERS: dict[str, Answers] = {"nothing": {"example": False, "ci": "none"}, "everything": EVERYTHING}


@pytest.fixture
def patiently(make_service: MakeService) -> MakeService:
    """Render a service whose targets may take their time."""

    def make(**answers: Any) -> Service:
        return replace(make_service(**answers), patience=LONGEST)

    return make


@dataclass(frozen=True)
class Removal(Change):
    """A mechanism that is taken out, with the words by which the test is chosen that has to notice."""

    red: str = ""


REMOVALS = {
    name: Removal(**details)
    for name, details in yaml.safe_load(Path(__file__).with_name("removals.yml").read_text(encoding="utf-8")).items()
}


@pytest.mark.skipif(bool(WITHOUT_PGBOUNCER), reason="PgBouncer is not installed: apt-get install pgbouncer")
def test_it_works_behind_pgbouncer(patiently: MakeService) -> None:
    done = patiently(**ANSWERS["nothing"]).make("test-faults", ARGS="-k pgbouncer")
    assert done.returncode == 0, done.stdout[-8000:]
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("name", ["nothing", pytest.param("everything", marks=pytest.mark.validate)])
def test_nothing_is_lost_whatever_fails(name: str, patiently: MakeService) -> None:
    assert_green(patiently(**ANSWERS[name]).make("test-faults", ARGS=WITHOUT_PGBOUNCER))


@pytest.mark.validate
def test_nobody_is_dropped_ten_times_in_a_row(patiently: MakeService) -> None:
    done = patiently(**EVERYTHING).make("test-faults", ARGS="-k nobody_is_dropped --count 10")
    assert done.returncode == 0, done.stdout[-8000:]
    assert "30 passed" in done.stdout


@pytest.mark.validate
@pytest.mark.parametrize("auth", ["none", "api_key", "jwt"])
def test_fuzzing_finds_nothing(auth: str, patiently: MakeService) -> None:
    done = patiently(**EVERYTHING | {"auth": auth}).make("fuzz", ARGS="--max-examples 40")
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    (cases,) = re.findall(r"(\d[\d,]*) cases", done.stdout.splitlines()[-1])
    assert int(cases.replace(",", "")) > 200


@pytest.mark.validate
@pytest.mark.parametrize("name", REMOVALS)
def test_a_mechanism_that_is_taken_out_is_missed(
    name: str, patiently: MakeService, record_property: Callable[[str, object], None]
) -> None:
    removal = REMOVALS[name]
    if "pgbouncer" in removal.red and WITHOUT_PGBOUNCER:
        pytest.skip("PgBouncer is not installed: apt-get install pgbouncer")
    record_property("drill", name)
    service = patiently(**removal.needs)
    removal.make(service.project, removal.needs)

    done = service.make("test-faults", ARGS=f"-x -k {json.dumps(removal.red)}")

    assert done.returncode != 0, "nobody has noticed"
    assert re.search(rf"(?m)^FAILED tests/faults/\S*{removal.red.split()[0]}", done.stdout), done.stdout[-8000:]
