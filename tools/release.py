"""What `make release` runs: check that this checkout can be a release, tag it, and record it.

Nothing is pushed. Whatever is wrong is said at once, and then nothing is changed.
"""

import argparse
import re
import subprocess
import sys
from datetime import date

from packaging.version import InvalidVersion, Version

from tools.checkout import ROOT, git
from tools.releases import CHANGELOG, RECORD, changelog, faults, releases, succeeds, version

FORM = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", re.ASCII)
NAMED = 5


class ReleaseError(Exception):
    """There can be no release; the message says why, one line for each reason."""


def tree_faults() -> list[str]:
    """Return what is not committed, and whether there is a branch to commit the record on."""
    entries = git(ROOT, "status", "--porcelain", "--untracked-files=all", "--no-renames", "-z").split("\0")
    unknown = [entry[3:] for entry in entries if entry.startswith("??")]
    changed = [entry[3:] for entry in entries if entry and not entry.startswith("??")]
    found = []
    if changed:
        found.append(f"There are changes that are not committed ({named(changed)}): commit them, or take them back.")
    if unknown:
        found.append(f"There are files that git does not know ({named(unknown)}): commit, ignore or remove them.")
    if not succeeds("symbolic-ref", "HEAD"):
        found.append("HEAD is on no branch, and the release has to be recorded on one: git switch main.")
    return found


def named(paths: list[str]) -> str:
    """Return the first few of some paths, and how many more there are."""
    more = len(paths) - NAMED
    return ", ".join(paths[:NAMED]) + (f" and {more} more" if more > 0 else "")


def version_faults(new: str, known: dict[str, str]) -> list[str]:
    """Return why this version cannot be the next."""
    if not FORM.fullmatch(new):
        return [f"The version in pyproject.toml is {new}, not three numbers: write it like 1.2.3."]
    newest = max(map(Version, known), default=None)
    if new in known:
        return [f"The version {new} is released already: raise it in pyproject.toml."]
    found = []
    if newest and Version(new) < newest:
        found.append(f"The version {new} is older than the release {newest}: raise it above that in pyproject.toml.")
    if f"v{new}" in tags():
        found.append(
            f"The tag v{new} exists already: raise the version in pyproject.toml, "
            f"or, if nobody can have the tag yet, remove it with `git tag --delete v{new}`."
        )
    return found


def changelog_faults(new: str) -> list[str]:
    """Return what the changelog lacks for a release of this version."""
    unreleased = [text for heading, text in changelog() if is_unreleased(heading)]
    entries = [entry for entry in changelog() if not is_unreleased(entry[0])]
    heading, text = entries[0] if entries else ("", "")
    wanted = f"`## {new} - YYYY-MM-DD`"
    found = []
    if any(map(says_something, unreleased)):
        found.append(f"{CHANGELOG} has notes left under `## Unreleased`: move them below {wanted}.")
    if not re.match(rf"{re.escape(new)}(?![\w.+-])", heading):
        newest = f"the newest entry of {CHANGELOG} is `## {heading}`" if heading else f"{CHANGELOG} has no entry"
        found.append(f"{newest[0].upper()}{newest[1:]}, not one for {new}: write {wanted} above the others.")
    elif not is_dated(heading, new):
        found.append(f"{CHANGELOG} has the heading `## {heading}`, without a date as it should be: make it {wanted}.")
    elif not says_something(text):
        found.append(f"{CHANGELOG} says nothing about {new}: write below `## {heading}` what its users will notice.")
    return found


def is_unreleased(heading: str) -> bool:
    """Say whether an entry is for what comes with a later release."""
    return heading.strip("[]").casefold().startswith("unreleased")


def says_something(text: str) -> bool:
    """Say whether a text has any line that is not a heading."""
    return any(line.strip() and not line.startswith("#") for line in text.splitlines())


def is_dated(heading: str, new: str) -> bool:
    """Say whether a heading has the form `1.2.3 - 2026-11-20`."""
    day = heading.removeprefix(f"{new} - ")
    try:
        return bool(re.fullmatch(r"\d{4}-\d\d-\d\d", day, re.ASCII)) and bool(date.fromisoformat(day))
    except ValueError:
        return False


def tags() -> list[str]:
    """Return the tags that are releases for Copier, or look so."""
    return [tag for tag in git(ROOT, "tag", "--list").splitlines() if tag.startswith("v") or is_version(tag)]


def is_version(tag: str) -> bool:
    """Say whether Copier would take a tag for a version."""
    try:
        Version(tag)
    except InvalidVersion:
        return False
    return True


def record_faults(new: str, known: dict[str, str]) -> list[str]:
    """Return what is wrong with the releases so far."""
    found = [fault for release, commit in known.items() for fault in faults(release, commit)]
    recorded = {f"v{release}" for release in (*known, new)}
    return found + [
        f"The tag {tag} is not in {RECORD}: record its commit there, or remove it with `git tag --delete {tag}`."
        for tag in tags()
        if tag not in recorded
    ]


def check() -> str:
    """Check everything. Returns the version that can be released.

    Raises:
        ReleaseError: it cannot.
    """
    new, known = version(), releases()
    if found := tree_faults() + version_faults(new, known) + changelog_faults(new) + record_faults(new, known):
        raise ReleaseError("\n".join(found))
    return new


def release(new: str) -> None:
    """Tag HEAD as a release, and commit the record of it; or leave everything as it was.

    Raises:
        ReleaseError: git did not want to.
    """
    commit, tag, record = git(ROOT, "rev-parse", "HEAD").strip(), f"v{new}", ROOT / RECORD
    before = record.read_text(encoding="utf-8")
    wanted = {**releases(), new: commit}
    git(ROOT, "tag", "--annotate", "--message", new, tag, commit)
    try:
        record.write_text(f'{before.rstrip()}\n"{new}" = "{commit}"\n', encoding="utf-8")
        if releases() != wanted:
            raise ReleaseError(f"{RECORD} does not end with its releases: move them to its end, one in each line.")
        git(ROOT, "commit", "--quiet", "--message", f"Record the release {new}", "--", RECORD)
    except BaseException:
        if git(ROOT, "rev-parse", "HEAD").strip() == commit:
            record.write_text(before, encoding="utf-8")
            succeeds("tag", "--delete", tag)
        raise


def how_to_push(tag: str) -> str:
    """Return the command that publishes a release."""
    branch = git(ROOT, "symbolic-ref", "--short", "HEAD").strip()
    known = git(ROOT, "config", "--default", "origin", "--get", f"branch.{branch}.remote").strip()
    return f"git push --atomic {known} {branch} {tag}"


def in_one_line(error: Exception) -> str:
    """Return the words of an error in one line; those of git, if it was git's."""
    words = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    return " ".join(words.split())


def main() -> int:
    """Read the arguments, check, and release. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="make release", description="Tag this checkout as a release, and record it.")
    parser.add_argument("--check", action="store_true", help="only say whether it could be one")
    arguments = parser.parse_args()
    try:
        new = check()
        if arguments.check:
            print(f"{new} can be released: `make release` does it.")
            return 0
        release(new)
    except ReleaseError as error:
        print(error, file=sys.stderr)
    except subprocess.CalledProcessError as error:
        print(f"git stopped the release, and nothing was changed: {in_one_line(error)}", file=sys.stderr)
    except (OSError, ValueError) as error:
        print(f"{in_one_line(error)}: mend that and try again.", file=sys.stderr)
    except KeyboardInterrupt:
        print("Interrupted: nothing was released.", file=sys.stderr)
        return 130
    else:
        print(f"{new} is released: the tag v{new} names the commit, and {RECORD} records it.")
        print(f"Nothing was pushed yet. To publish it: {how_to_push(f'v{new}')}")
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
