"""What `make render-diff` runs: show what users would get, compared with a release, for a few sets of answers."""

import argparse
import re
import signal
import subprocess
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tools.checkout import (
    ANSWERS_FILE,
    ROOT,
    Questions,
    clone_template,
    extract,
    git,
    isolate_git,
    questions_at,
    render,
    values,
)
from tools.releases import is_commit, releases, succeeds

# The sets of answers that a change of the template is looked at with.
GOLDEN: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no example": {"example": False},
    "everything": {"example": True, "auth": "jwt", "object_storage": True, "ci": "github"},
    "keys, GitLab, older versions": {
        "auth": "api_key",
        "ci": "gitlab",
        "postgres_version": "16",
        "python_version": "3.11",
    },
}
NAME = "my-service"
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DiffError(Exception):
    """There is nothing to compare with; the message is one line for whoever asked for it."""


@dataclass(frozen=True)
class Hunk:
    """A change in one place of one file. Where it is in the file does not count: other changes move it."""

    file: str
    lines: str
    repetition: int


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that goes after the block, also when this is stopped, and take Copier's own into it."""
    with tempfile.TemporaryDirectory(prefix="render-diff-", ignore_cleanup_errors=True) as folder:
        previous, tempfile.tempdir = tempfile.tempdir, folder
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = previous
            for number in STOP_SIGNALS:  # A second Ctrl-C must not stop the cleaning up.
                signal.signal(number, signal.SIG_IGN)


def find_commit(name: str) -> tuple[str, str]:
    """Return what to compare with, as people name it, and its commit: a release, or whatever git knows by the name.

    Raises:
        DiffError: there is no such thing.
    """
    known = releases()
    if not known and not name:
        raise DiffError("There is no release yet to compare with: name a commit, FROM=...")
    name = name or list(known)[-1]
    release = name.removeprefix("v")
    if release in known:
        if not is_commit(known[release]):
            raise DiffError(f"The commit of {release} is not here: fetch the whole history (git fetch --unshallow).")
        return release, known[release]
    if not succeeds("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}"):
        raise DiffError(f"FROM={name} is neither a release nor a commit. The releases: {', '.join(known)}.")
    return name, git(ROOT, "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}").strip()


def known_answers(answers: dict[str, Any], questions: Questions) -> dict[str, Any]:
    """Return the answers to what was already asked, as far as they could be given."""
    return {
        name: answer
        for name, answer in answers.items()
        if name in questions and (not values(questions[name]) or answer in values(questions[name]))
    }


def compare(name: str, commit: str, folder: Path) -> dict[str, tuple[str, str]]:
    """Render each set of answers at a commit and as the checkout is now. Returns statistics and diff of each."""
    clone, questions = clone_template(folder / "clone"), questions_at(commit)
    old, new = extract(clone, commit, folder / "old"), extract(clone, "HEAD", folder / "new")
    found = {}
    for number, (title, answers) in enumerate(GOLDEN.items()):
        say(f"--- Rendering {title}: {name}, and now")
        here = folder / str(number)
        before = render(old, here / "before" / NAME, **known_answers(answers, questions))
        after = render(new, here / "after" / NAME, **answers)
        found[title] = difference(before, after, here / "trees")
    return found


def difference(before: Path, after: Path, trees: Path) -> tuple[str, str]:
    """Return the statistics and the diff of two renders, with paths as they are in a project."""
    git(ROOT, "init", "--quiet", str(trees))
    names = [tree(trees, before), tree(trees, after)]
    show = ("-c", "core.quotePath=false", "diff", "--no-color", "--no-ext-diff")
    return git(trees, *show, "--stat", *names), git(trees, *show, *names)


def tree(trees: Path, folder: Path) -> str:
    """Put a render into a repository, except for the answers. Returns the name of its tree."""
    (folder / ANSWERS_FILE).unlink()
    git(folder, f"--git-dir={trees / '.git'}", "--work-tree=.", "add", "--all", "--force", ".")
    return git(trees, "write-tree").strip()


def hunks_of(diff: str) -> dict[Hunk, str]:
    """Return the hunks of a diff, each with its text as it is in the diff, where it is in the file included."""
    found: dict[Hunk, str] = {}
    for part in re.split(r"^(?=diff --git )", diff, flags=re.MULTILINE)[1:]:
        header, *texts = re.split(r"^(?=@@ )", part, flags=re.MULTILINE)
        repetitions = Counter[str]()
        if texts:
            header = re.sub(r"^index .*\n", "", header, flags=re.MULTILINE)
        for text in texts or [""]:
            lines = text.partition("\n")[2]
            repetitions[lines] += 1
            found[Hunk(header, lines, repetitions[lines])] = text
    return found


def shown_once(diffs: dict[str, str]) -> dict[tuple[str, ...], str]:
    """Return the diffs of several sets without repetition: for the sets that have them in common, what they have."""
    sets: dict[Hunk, list[str]] = {}
    texts: dict[Hunk, str] = {}
    for title, diff in diffs.items():
        for hunk, text in hunks_of(diff).items():
            sets.setdefault(hunk, []).append(title)
            texts.setdefault(hunk, text)
    groups: dict[tuple[str, ...], str] = {}
    for titles in sorted(dict.fromkeys(map(tuple, sets.values())), key=len, reverse=True):
        own = sorted((hunk for hunk in sets if tuple(sets[hunk]) == titles), key=lambda hunk: hunk.file)
        groups[titles] = "".join(
            file + "".join(texts[hunk] for hunk in hunks) for file, hunks in groupby(own, key=lambda hunk: hunk.file)
        )
    return groups


def report(name: str, found: dict[str, tuple[str, str]], *, only_statistics: bool) -> str:
    """Return what to show: how much changed in each set, and then each change once."""
    statistics: dict[str, list[str]] = {}
    for title, (stat, _) in found.items():
        statistics.setdefault(stat, []).append(title)
    nothing = f" nothing changed since {name}\n"
    parts = [f"=== {'; '.join(titles)}\n{stat or nothing}" for stat, titles in statistics.items()]
    if not only_statistics:
        groups = shown_once({title: diff for title, (_, diff) in found.items()})
        parts += [
            f"=== in {'all sets' if len(titles) == len(found) else '; '.join(titles)}\n{text}"
            for titles, text in groups.items()
        ]
    return "\n".join(parts)


def say(text: str) -> None:
    """Tell the user how far this is."""
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """Read the arguments and show the difference. Returns the exit code."""
    for number in STOP_SIGNALS:
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    parser = argparse.ArgumentParser(prog="make render-diff", description="Show what a change does to the renders.")
    parser.add_argument("--from", dest="name", default="", help="a release or a commit; the last release otherwise")
    parser.add_argument("--stat", action="store_true", help="only how much changed in which file")
    arguments = parser.parse_args()
    isolate_git()
    warnings.simplefilter("ignore")  # That this clone is shallow, as far as it goes, is not of interest here.
    try:
        name, commit = find_commit(arguments.name)
        with temporary_folder() as folder:
            text = report(name, compare(name, commit, folder), only_statistics=arguments.stat)
    except DiffError as error:
        say(str(error))
        return 1
    except subprocess.CalledProcessError as error:
        say(f"git failed: {' '.join(error.stderr.split())}")
        return 1
    except (ValueError, OSError) as error:  # What Copier says about an answer, for one.
        say(" ".join(str(error).split()))
        return 1
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # A pager may be left before the end.
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
