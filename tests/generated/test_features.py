"""The features: green in every combination, and gone when their folders are."""

import itertools
import re
import shutil
from collections.abc import Callable

import pytest

from tests.answers import EVERYTHING
from tests.generated.conftest import MakeService
from tests.generated.test_checks import assert_green
from tests.ownership import paths_of
from tests.template import QUESTIONS

AUTHENTICATIONS = list(QUESTIONS["auth"]["choices"].values())
COMBINATIONS = list(itertools.product(AUTHENTICATIONS, (False, True), (False, True)))

# What a user deletes to be rid of a feature: its folders, and its tests. The migrations stay.
PARTS = {
    "projects and tasks": ({"auth": "none"}, paths_of("example")),
    "accounts": ({"auth": "jwt"}, paths_of("auth") + paths_of("jwt")),
    "API keys": ({"auth": "api_key"}, paths_of("auth") + paths_of("api_key")),
    "files": ({"auth": "jwt"}, paths_of("object_storage")),
}


@pytest.mark.parametrize(("auth", "object_storage", "example"), COMBINATIONS)
def test_everything_a_pull_request_needs_is_green(
    auth: str,
    object_storage: bool,
    example: bool,
    make_service: MakeService,
    record_property: Callable[[str, object], None],
) -> None:
    record_property("combination", f"auth={auth}, object_storage={object_storage}, example={example}")
    service = make_service(auth=auth, object_storage=object_storage, example=example)
    assert_green(service.make("check"))


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
