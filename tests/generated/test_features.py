"""The features: green with each other, and gone when their folders are."""

import json
import re
import shutil
from collections.abc import Callable

import pytest

from tests.answers import EVERYTHING, FEATURES
from tests.generated.conftest import MakeService
from tests.generated.test_checks import assert_green
from tests.ownership import paths_of

# What a user deletes to be rid of a feature: its folders, and its tests. The migrations stay.
PARTS = {
    "projects and tasks": ({"auth": "none"}, paths_of("example")),
    "accounts": ({"auth": "jwt"}, paths_of("auth") + paths_of("jwt") + paths_of("file_owners")),
    "API keys": ({"auth": "api_key"}, paths_of("auth") + paths_of("api_key") + paths_of("file_owners")),
    "files": ({"auth": "jwt"}, paths_of("object_storage") + paths_of("file_owners")),
}


def test_there_are_few_full_runs() -> None:
    assert len(FEATURES) <= 12


@pytest.mark.parametrize("name", FEATURES)
def test_everything_a_pull_request_needs_is_green(
    name: str, make_service: MakeService, record_property: Callable[[str, object], None]
) -> None:
    record_property("combination", json.dumps({"what": name, "answers": FEATURES[name]}))
    assert_green(make_service(**FEATURES[name]).make("check"))


@pytest.mark.parametrize("feature", PARTS)
def test_a_feature_can_be_deleted_by_hand(feature: str, make_service: MakeService) -> None:
    answers, parts = PARTS[feature]
    service = make_service(**{**EVERYTHING, **answers})
    for part in parts:
        path = service.project / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    try:
        done = service.make("migration", m=f"drop {feature}")
        assert done.returncode == 0, done.stdout + done.stderr
        (migration,) = (service.project / "alembic" / "versions").glob("2*.py")
        tables = set(
            re.findall(r'drop_table\("(\w+)"\)', migration.read_text(encoding="utf-8").split("def downgrade")[0])
        )
        assert tables, migration.read_text(encoding="utf-8")
        assert_green(service.make("check"))
    finally:
        shutil.rmtree(service.project / ".postgres", ignore_errors=True)
