"""The releases: which there are, whether what is recorded of them is true, and what the changelog says."""

import re
import subprocess
import tomllib
from typing import Any

from packaging.version import Version

from tools.checkout import ROOT, git

RECORD = "releases.toml"
PROJECT = "pyproject.toml"
CHANGELOG = "CHANGELOG.md"


def releases() -> dict[str, str]:
    """Return the commit of every release by its version, the oldest first."""
    recorded = field((ROOT / RECORD).read_text(encoding="utf-8"), RECORD, "releases")
    return {version: recorded[version] for version in sorted(recorded, key=Version)}


def version() -> str:
    """Return the version of this checkout."""
    return field((ROOT / PROJECT).read_text(encoding="utf-8"), PROJECT, "project", "version")


def version_at(commit: str) -> str:
    """Return the version that a commit has."""
    return field(git(ROOT, "show", f"{commit}:{PROJECT}"), PROJECT, "project", "version")


def field(text: str, name: str, *keys: str) -> Any:
    """Return a field of a TOML file.

    Raises:
        ValueError: the file has no such field, or is no TOML.
    """
    try:
        value: Any = tomllib.loads(text)
        for key in keys:
            value = value[key]
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name} is not TOML: {error}") from error
    except KeyError as error:
        raise ValueError(f"{name} has no {'.'.join(keys)}") from error
    return value


def changelog() -> list[tuple[str, str]]:
    """Return the heading and the text of every entry of the changelog, the newest first."""
    _, *entries = re.split(r"^## +", (ROOT / CHANGELOG).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return [(heading.strip(), text) for heading, _, text in (entry.partition("\n") for entry in entries)]


def succeeds(*command: str) -> bool:
    """Say whether git can do something in this checkout."""
    return subprocess.run(["git", *command], cwd=ROOT, check=False, capture_output=True).returncode == 0


def is_commit(name: str) -> bool:
    """Say whether this is the full name of a commit that is here."""
    return bool(re.fullmatch(r"[0-9a-f]{40}", name)) and succeeds("cat-file", "-e", f"{name}^{{commit}}")


def faults(version: str, commit: str) -> list[str]:
    """Return what is wrong with a release that is recorded: a sentence each, with what to do about it."""
    if not is_commit(commit):
        return [
            f"{RECORD} says that {version} is the commit {commit}, which is not here: "
            f"fetch the whole history (git fetch --unshallow), or mend {RECORD}."
        ]
    found = []
    there = version_at(commit)
    if there != version:
        found.append(f"{RECORD} says that {version} is the commit {commit[:12]}, but that is {there}: mend {RECORD}.")
    if not succeeds("merge-base", "--is-ancestor", commit, "HEAD"):
        found.append(
            f"The release {version} ({commit[:12]}) is not among the ancestors of HEAD: "
            f"go to the branch that has it, or mend {RECORD}."
        )
    tag = f"v{version}"
    kind, _, tagged = (
        git(ROOT, "for-each-ref", "--format=%(objecttype) %(*objectname)", f"refs/tags/{tag}").strip().partition(" ")
    )
    if kind and kind != "tag":
        tagged = git(ROOT, "rev-parse", f"refs/tags/{tag}").strip()
        found.append(
            f"The tag {tag} is not annotated: make it anew with "
            f"`git tag --annotate --force --message {version} {tag} {commit[:12]}`."
        )
    if kind and tagged != commit:
        found.append(
            f"The tag {tag} is on {tagged[:12]}, but {RECORD} says that {version} is {commit[:12]}: "
            "mend the one that is wrong."
        )
    return found
