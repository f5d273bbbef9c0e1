"""Whether ownership.yml is right: against all renders, and against what copier.yml does with it."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment, StrictUndefined

from tests.answers import RENDERS
from tests.ownership import ENTRIES, entry_of, features_of, paths_of
from tests.template import CONFIGURATION, TEMPLATE, contents

STARTERS = {entry.path.rstrip("/") for entry in ENTRIES if entry.kind == "starter"}
MIGRATIONS = {entry.path for entry in ENTRIES if entry.kind == "migration"}
BEFORE: dict[str, Any] = {"example_before": True, "auth_before": "jwt", "object_storage_before": True}
SINCE = {"alembic/versions/0004_file_owners.py": "v0.4.0"}
"""Migrations that came to a feature later, and the first version that has them."""


def regex_search(text: str, pattern: str) -> re.Match[str] | None:
    """Stand in for Copier's filter of this name."""
    return re.search(pattern, text)


def excluded(operation: str, data: dict[str, Any], version: str = "v0.4.0", **context: Any) -> set[str]:
    """Return what copier.yml says is not to be rendered, where the project comes from `version`."""
    environment = Environment(undefined=StrictUndefined)  # noqa: S701 - it makes paths, and no HTML
    filters: Any = environment.filters
    filters["regex_search"] = regex_search
    before = {"before": {"_commit": version}}
    context |= {"_copier_operation": operation, "_copier_conf": {"data": data}, "_external_data": before}
    return {
        line.strip()
        for entry in CONFIGURATION["_exclude"]
        for line in environment.from_string(entry).render(context).splitlines()
        if line.strip()
    }


@pytest.mark.parametrize("name", RENDERS)
def test_every_path_has_an_owner_and_comes_with_its_feature(name: str, renders: dict[str, Path]) -> None:
    features = features_of(renders[name])
    strangers = {path: entry_of(path).feature for path in contents(renders[name])}
    assert {path: feature for path, feature in strangers.items() if feature and feature not in features} == {}


def test_a_path_is_missing_only_where_its_feature_is_off(renders: dict[str, Path]) -> None:
    files = {name: set(contents(project)) for name, project in renders.items()}
    missing = [
        f"{path} is not in {name}"
        for path in sorted(set.union(*files.values()))
        for name, project in renders.items()
        if path not in files[name] and (not (feature := entry_of(path).feature) or feature in features_of(project))
    ]
    assert missing == []


def test_every_entry_is_about_something(renders: dict[str, Path]) -> None:
    entries = {entry_of(path) for project in renders.values() for path in contents(project)}
    assert {entry.path for entry in ENTRIES} - {entry.path for entry in entries} == set()


def test_a_path_that_is_in_no_entry_is_nobodys() -> None:
    with pytest.raises(KeyError, match=re.escape("does not say whose app/stranger.py is")):
        entry_of("app/stranger.py")


def test_a_path_has_one_entry() -> None:
    assert len({entry.path for entry in ENTRIES}) == len(ENTRIES)


def test_what_is_there_is_never_overwritten_if_it_is_a_starter() -> None:
    assert set(CONFIGURATION["_skip_if_exists"]) == STARTERS | MIGRATIONS


def test_an_update_renders_no_starter_again() -> None:
    keys = {entry.path for entry in ENTRIES if entry.feature == "api_key" and entry.kind == "migration"}
    assert excluded("update", {}, **BEFORE) == STARTERS | MIGRATIONS - keys
    assert excluded("update", {}, **BEFORE | {"auth_before": "api_key"}) >= keys


@pytest.mark.parametrize("version", ["v0.1.0", "v0.2.0", "v0.3.0", "v0.3.0-12-gabcdef0"])
def test_an_update_brings_a_later_migration_of_a_feature_once(version: str) -> None:
    assert excluded("update", {}, **BEFORE) - excluded("update", {}, version, **BEFORE) == {*SINCE}


@pytest.mark.parametrize("version", ["v0.4.0", "v0.10.0", "v1.3.0"])
def test_a_later_migration_does_not_come_back(version: str) -> None:
    assert excluded("update", {}, version, **BEFORE) >= {*SINCE}


@pytest.mark.parametrize(
    ("data", "before"),
    [
        ({"example": True, "auth": "jwt", "object_storage": True}, BEFORE),  # --data is all that is known at that point
        ({}, {"example_before": False, "auth_before": "none", "object_storage_before": False}),
    ],
)
def test_an_update_renders_the_starters_of_what_is_switched_on(data: dict[str, Any], before: dict[str, Any]) -> None:
    always = {entry.path.rstrip("/") for entry in ENTRIES if entry.kind == "starter" and not entry.feature}
    assert excluded("update", data, **before) == always


def test_an_update_never_knows_of_migrations_that_there_were() -> None:
    assert "alembic/versions/*.py" in excluded("update", {"_commit": "v0.1.0"})


def test_a_first_render_leaves_nothing_out() -> None:
    assert excluded("copy", {}) == set()


@pytest.mark.parametrize("name", RENDERS)
def test_the_page_names_every_starter(name: str, renders: dict[str, Path]) -> None:
    page = (renders[name] / "docs" / "template.md").read_text(encoding="utf-8")
    starters = {entry_of(path).path for path in contents(renders[name]) if entry_of(path).kind == "starter"}
    assert {path for path in starters if f"`{path}`" not in page} == set()


def test_an_update_knows_the_folders_of_every_feature() -> None:
    """It switches a feature off whose folders are gone."""
    script = runpy.run_path(str(TEMPLATE / "dev" / "template.py"))
    known = {
        question if answer == "true" else answer: {*folders}
        for (question, answer), folders in script["FOLDERS"].items()
    }

    features = {entry.feature for entry in ENTRIES if entry.path.startswith("app/") and entry.path.endswith("/")} - {""}
    assert known == {feature: {path for path in paths_of(feature) if path.startswith("app/")} for feature in features}
    assert set(script["OFF"]) == {question for question, _ in script["FOLDERS"]}
