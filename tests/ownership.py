"""Whose each path of a rendered project is: what ownership.yml says, as the tests ask it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.template import ROOT


@dataclass(frozen=True)
class Entry:
    """A path of ownership.yml, or a folder, whose path ends in a slash."""

    path: str
    kind: str
    """`managed`, `starter` or `migration`."""
    feature: str = ""
    """The feature that it comes with, if it comes with one."""

    def fits(self, path: str) -> bool:
        """Say whether this entry speaks of a path."""
        return path == self.path or (self.path.endswith("/") and path.startswith(self.path))


def read_entries() -> list[Entry]:
    """Read ownership.yml."""
    said: dict[str, Any] = yaml.safe_load((ROOT / "ownership.yml").read_text(encoding="utf-8"))
    features: dict[str, dict[str, list[str]]] = said.pop("feature")
    entries = [Entry(path, kind) for kind, paths in said.items() for path in paths]
    return entries + [
        Entry(path, kind, feature)
        for feature, kinds in features.items()
        for kind, paths in kinds.items()
        for path in paths
    ]


ENTRIES = read_entries()


def entry_of(path: str) -> Entry:
    """Return the entry that counts for a rendered path. Raises KeyError if ownership.yml does not know it."""
    fitting = [entry for entry in ENTRIES if entry.fits(path)]
    if not fitting:
        raise KeyError(f"ownership.yml does not say whose {path} is")
    return max(fitting, key=lambda entry: len(entry.path))


def kind_of(path: str) -> str:
    """Return whether a rendered path is `managed`, a `starter` or a `migration`."""
    return entry_of(path).kind


def paths_of(feature: str) -> list[str]:
    """Return the paths that come with a feature and go with it: all of its own but the migration."""
    return [entry.path.rstrip("/") for entry in ENTRIES if entry.feature == feature and entry.kind != "migration"]


def features_of(project: Path) -> set[str]:
    """Return the features that a project was rendered with, as ownership.yml names them."""
    answers = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))
    chosen = {name for name in ("example", "object_storage") if answers[name]} | {answers["auth"], answers["ci"]}
    if answers["object_storage"] and answers["auth"] != "none":
        chosen.add("file_owners")
    return (chosen | {question for question in ("auth", "ci") if answers[question] != "none"}) - {"none"}
