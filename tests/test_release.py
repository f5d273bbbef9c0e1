"""`make release` and `make render-diff`: what is refused, what is done, and what is shown."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.template import ROOT, git
from tools.release import version_faults
from tools.releases import releases
from tools.render_diff import GOLDEN, known_answers, shown_once

NEW = "90.1.0"
ENTRY = f"## {NEW} - 2026-11-20\n\n### Added\n\n- Something new.\n"
OLD, OLDER = list(releases())[-1], list(releases())[-2]
WAITING = 60


def run(tool: str, repository: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of a clone."""
    return subprocess.run(
        [sys.executable, "-m", f"tools.{tool}", *arguments],
        cwd=repository,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def commit(repository: Path) -> None:
    """Commit whatever there is."""
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", "Prepare")


def replace(file: Path, old: str, new: str) -> None:
    """Replace what a file has once."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def state(repository: Path) -> tuple[str, ...]:
    """Return all that a release changes."""
    refs = git(repository, "for-each-ref", "--format=%(refname) %(objectname)")
    return refs, git(repository, "rev-parse", "HEAD"), git(repository, "status", "--porcelain")


@pytest.fixture
def repository(template: Path, tmp_path: Path) -> Path:
    """A clone whose version can be released, with the tags of all releases and no other."""
    repository = tmp_path / "clone"
    git(tmp_path, "clone", "--quiet", str(template), str(repository))
    git(repository, "switch", "--quiet", "--force-create", "main")
    if there := git(repository, "tag", "--list").split():
        git(repository, "tag", "--delete", *there)
    for version, name in releases().items():
        git(repository, "tag", "--annotate", "--message", version, f"v{version}", name)
    set_version(repository, NEW)
    (repository / "CHANGELOG.md").write_text(f"# Changelog\n\n{ENTRY}\n## {OLD} - 2026-01-01\n\n- Something old.\n")
    commit(repository)
    return repository


def set_version(repository: Path, version: str) -> None:
    """Give the checkout a version."""
    file = repository / "pyproject.toml"
    file.write_text(re.sub(r'(?m)^version = ".*"$', f'version = "{version}"', file.read_text(), count=1))


def test_a_version_that_is_in_order_is_tagged_and_recorded_and_not_pushed(repository: Path, template: Path) -> None:
    elsewhere, head = state(template), git(repository, "rev-parse", "HEAD").strip()
    done = run("release", repository)

    assert (done.returncode, done.stderr) == (0, "")
    assert f"git push --atomic origin main v{NEW}" in done.stdout
    assert git(repository, "cat-file", "-t", f"v{NEW}") == "tag\n"
    assert git(repository, "rev-parse", f"v{NEW}^{{commit}}", "HEAD^").split() == [head, head]
    assert git(repository, "log", "-1", "--format=%s") == f"Record the release {NEW}\n"
    assert git(repository, "diff", "--unified=0", "HEAD^", "HEAD").splitlines()[-1:] == [f'+"{NEW}" = "{head}"']
    assert git(repository, "diff", "--numstat", "HEAD^", "HEAD") == "1\t0\treleases.toml\n"
    assert git(repository, "status", "--porcelain") == ""
    assert state(template) == elsewhere


def test_it_is_released_once(repository: Path) -> None:
    run("release", repository)
    before = state(repository)
    done = run("release", repository)

    assert done.returncode == 1
    assert done.stderr == f"The version {NEW} is released already: raise it in pyproject.toml.\n"
    assert state(repository) == before


def test_a_check_changes_nothing(repository: Path) -> None:
    before = state(repository)
    done = run("release", repository, "--check")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{NEW} can be released: `make release` does it.\n"
    assert state(repository) == before


def test_versions_are_compared_as_numbers() -> None:
    assert version_faults("90.10.0", {"90.9.0": "", "90.2.0": ""}) == []
    assert "older than the release 90.10.0" in version_faults("90.9.0", {"90.2.0": "", "90.10.0": ""})[0]


def test_notes_under_unreleased_are_none_when_there_are_only_headings(repository: Path) -> None:
    replace(repository / "CHANGELOG.md", ENTRY, f"## Unreleased\n\n### Added\n\n{ENTRY}")
    commit(repository)

    assert run("release", repository, "--check").returncode == 0


def test_a_tag_that_is_not_here_is_not_missed(repository: Path) -> None:
    git(repository, "tag", "--delete", f"v{OLD}")

    assert run("release", repository, "--check").returncode == 0


def changed(repository: Path) -> None:
    with (repository / "README.md").open("a") as file:
        file.write("More.\n")


def staged(repository: Path) -> None:
    changed(repository)
    git(repository, "add", "--all")


def many_changed(repository: Path) -> None:
    for path in sorted((repository / "tools").glob("*.py"))[:1] + sorted((repository / "tests").glob("test_*.py"))[:6]:
        path.unlink()


def unknown(repository: Path) -> None:
    git(repository, "config", "status.showUntrackedFiles", "no")
    (repository / "tests" / "notes").mkdir()
    (repository / "tests" / "notes" / "my notes.txt").write_text("Remember.\n")


def on_no_branch(repository: Path) -> None:
    git(repository, "switch", "--quiet", "--detach")


def as_version(version: str) -> Callable[[Path], None]:
    def change(repository: Path) -> None:
        set_version(repository, version)
        replace(repository / "CHANGELOG.md", f"## {NEW} ", f"## {version} ")
        commit(repository)

    return change


def with_entry(entry: str) -> Callable[[Path], None]:
    def change(repository: Path) -> None:
        replace(repository / "CHANGELOG.md", ENTRY, entry)
        commit(repository)

    return change


def tagged(repository: Path) -> None:
    git(repository, "tag", "--annotate", "--message", NEW, f"v{NEW}")


def tagged_with(tag: str) -> Callable[[Path], None]:
    def change(repository: Path) -> None:
        git(repository, "tag", tag)

    return change


def lightweight(repository: Path) -> None:
    git(repository, "tag", "--force", f"v{OLD}", releases()[OLD])


def tag_moved(repository: Path) -> None:
    git(repository, "tag", "--annotate", "--force", "--message", OLD, f"v{OLD}", "HEAD")


def recorded_as(release: str, wrong: str) -> Callable[[Path], None]:
    def change(repository: Path) -> None:
        replace(repository / "releases.toml", releases()[release], wrong)
        git(repository, "tag", "--delete", f"v{release}")
        commit(repository)

    return change


def elsewhere(repository: Path) -> None:
    """Record a release that nobody who has this branch has."""
    git(repository, "switch", "--quiet", "--detach", releases()[OLD])
    git(repository, "commit", "--quiet", "--allow-empty", "--message", "Elsewhere")
    name = git(repository, "rev-parse", "HEAD").strip()
    git(repository, "switch", "--quiet", "main")
    recorded_as(OLD, name)(repository)


def not_toml(repository: Path) -> None:
    (repository / "releases.toml").write_text("[releases\n")
    commit(repository)


def no_releases(repository: Path) -> None:
    (repository / "releases.toml").write_text("")
    commit(repository)


WANTED = f"`## {NEW} - YYYY-MM-DD`"
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "changed": (
        changed,
        "There are changes that are not committed (README.md): commit them, or take them back.",
    ),
    "staged": (
        staged,
        "There are changes that are not committed (README.md): commit them, or take them back.",
    ),
    "many changed": (
        many_changed,
        "There are changes that are not committed (tests/test_*, *, * and 2 more): commit them, or take them back.",
    ),
    "unknown": (
        unknown,
        "There are files that git does not know (tests/notes/my notes.txt): commit, ignore or remove them.",
    ),
    "no branch": (
        on_no_branch,
        "HEAD is on no branch, and the release has to be recorded on one: git switch main.",
    ),
    "two numbers": (
        as_version("90.1"),
        "The version in pyproject.toml is 90.1, not three numbers: write it like 1.2.3.",
    ),
    "released": (
        as_version(OLD),
        f"The version {OLD} is released already: raise it in pyproject.toml.",
    ),
    "older": (
        as_version("0.0.9"),
        f"The version 0.0.9 is older than the release {OLD}: raise it above that in pyproject.toml.",
    ),
    "tagged": (
        tagged,
        f"The tag v{NEW} exists already: raise the version in pyproject.toml, "
        f"or, if nobody can have the tag yet, remove it with `git tag --delete v{NEW}`.",
    ),
    "no entry": (
        with_entry(""),
        f"The newest entry of CHANGELOG.md is `## {OLD} - 2026-01-01`, not one for {NEW}: "
        f"write {WANTED} above the others.",
    ),
    "newer entry": (
        with_entry(f"## {NEW}1 - 2026-11-20\n\n- Newer.\n\n{ENTRY}"),
        f"The newest entry of CHANGELOG.md is `## {NEW}1 - 2026-11-20`, not one for {NEW}: "
        f"write {WANTED} above the others.",
    ),
    "no date": (
        with_entry(f"## {NEW}\n\n- New.\n"),
        f"CHANGELOG.md has the heading `## {NEW}`, without a date as it should be: make it {WANTED}.",
    ),
    "no such day": (
        with_entry(f"## {NEW} - 2026-11-31\n\n- New.\n"),
        f"CHANGELOG.md has the heading `## {NEW} - 2026-11-31`, without a date as it should be: make it {WANTED}.",
    ),
    "nothing said": (
        with_entry(f"## {NEW} - 2026-11-20\n\n### Added\n"),
        f"CHANGELOG.md says nothing about {NEW}: write below `## {NEW} - 2026-11-20` what its users will notice.",
    ),
    "unreleased": (
        with_entry(f"## Unreleased\n\n- Later.\n\n{ENTRY}"),
        f"CHANGELOG.md has notes left under `## Unreleased`: move them below {WANTED}.",
    ),
    "unrecorded tag": (
        tagged_with("v0.9.9"),
        "The tag v0.9.9 is not in releases.toml: record its commit there, or remove it with `git tag --delete v0.9.9`.",
    ),
    "tag that Copier would take": (
        tagged_with("0.9.9"),
        "The tag 0.9.9 is not in releases.toml: record its commit there, or remove it with `git tag --delete 0.9.9`.",
    ),
    "lightweight tag": (
        lightweight,
        f"The tag v{OLD} is not annotated: make it anew with "
        f"`git tag --annotate --force --message {OLD} v{OLD} {releases()[OLD][:12]}`.",
    ),
    "tag elsewhere": (
        tag_moved,
        f"The tag v{OLD} is on *, but releases.toml says that {OLD} is {releases()[OLD][:12]}: "
        "mend the one that is wrong.",
    ),
    "wrong commit": (
        recorded_as(OLDER, releases()[OLD]),
        f"releases.toml says that {OLDER} is the commit {releases()[OLD][:12]}, but that is {OLD}: mend releases.toml.",
    ),
    "no such commit": (
        recorded_as(OLD, "0" * 40),
        f"releases.toml says that {OLD} is the commit {'0' * 40}, which is not here: "
        "fetch the whole history (git fetch --unshallow), or mend releases.toml.",
    ),
    "not a commit": (
        recorded_as(OLD, "main"),
        f"releases.toml says that {OLD} is the commit main, which is not here: "
        "fetch the whole history (git fetch --unshallow), or mend releases.toml.",
    ),
    "no ancestor": (
        elsewhere,
        f"The release {OLD} (*) is not among the ancestors of HEAD: "
        "go to the branch that has it, or mend releases.toml.",
    ),
    "no TOML": (
        not_toml,
        "releases.toml is not TOML: *: mend that and try again.",
    ),
    "no releases": (
        no_releases,
        "releases.toml has no releases: mend that and try again.",
    ),
}


def is_like(said: str, sentence: str) -> bool:
    """Say whether something was said, where a star is any words."""
    return bool(re.fullmatch(".+".join(map(re.escape, sentence.split("*"))), said))


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_in_order_is_refused_with_one_sentence_and_nothing_is_done(case: str, repository: Path) -> None:
    change, sentence = REFUSED[case]
    change(repository)
    before = state(repository)
    done = run("release", repository)

    assert (done.returncode, done.stdout) == (1, "")
    assert is_like(done.stderr, f"{sentence}\n"), done.stderr
    assert state(repository) == before


def test_everything_that_is_not_in_order_is_said_at_once(repository: Path) -> None:
    with_entry(f"## Unreleased\n\n- Later.\n\n## {NEW}\n")(repository)
    cases = ["lightweight tag", "tagged", "unrecorded tag", "changed", "unknown"]
    for case in cases:
        REFUSED[case][0](repository)
    said = run("release", repository, "--check").stderr.splitlines()

    sentences = [REFUSED[case][1] for case in (*cases, "unreleased", "no date")]
    assert [sentence for sentence in sentences if not any(is_like(line, sentence) for line in said)] == []
    assert len(said) == len(sentences)


def hook(repository: Path) -> str:
    """Let a hook refuse every commit. Returns words of the refusal."""
    folder = repository / ".git" / "refusing"
    folder.mkdir()
    (folder / "pre-commit").write_text("#!/bin/sh\necho No commits today. >&2\nexit 1\n")
    (folder / "pre-commit").chmod(0o755)
    git(repository, "config", "core.hooksPath", str(folder))
    return "No commits today."


def another_table(repository: Path) -> str:
    """Let the record not end with the releases. Returns words of the refusal."""
    with (repository / "releases.toml").open("a") as file:
        file.write("[other]\n")
    commit(repository)
    return "releases.toml does not end with its releases"


@pytest.mark.parametrize("obstacle", [hook, another_table])
def test_a_release_that_cannot_be_recorded_leaves_nothing(obstacle: Callable[[Path], str], repository: Path) -> None:
    words = obstacle(repository)
    before = state(repository)
    done = run("release", repository)

    assert done.returncode == 1
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert state(repository) == before


def test_make_release_only_checks_when_it_is_asked_to() -> None:
    def command(*variables: str) -> str:
        return subprocess.check_output(["make", "--dry-run", "release", *variables], cwd=ROOT, text=True)

    assert "-m tools.release --check\n" in command("CHECK=1")
    assert "--check" not in command()


EVERYWHERE = "diff --git a/alembic.ini b/alembic.ini\n"
PLANTED = "diff --git a/planted.txt b/planted.txt\n"


@pytest.fixture
def changed_template(repository: Path) -> Path:
    """A clone with a line that every render has, and a file that only some have; neither is committed."""
    with (repository / "template" / "alembic.ini").open("a") as file:
        file.write("# Another line.\n")
    (repository / "template" / "{% if auth == 'jwt' %}planted.txt{% endif %}").write_text("Planted.\n")
    return repository


def test_a_change_is_shown_once_with_the_sets_that_have_it(changed_template: Path) -> None:
    done = run("render_diff", changed_template, "--from=HEAD")

    with_accounts = [title for title, answers in GOLDEN.items() if answers.get("auth") == "jwt"]
    statistics, everywhere, some = re.split(r"(?=^=== in )", done.stdout, flags=re.MULTILINE)
    assert done.returncode == 0
    assert set(GOLDEN) == set(re.findall(r"Rendering (.+): HEAD, and now", done.stderr))
    assert set(GOLDEN) == set("; ".join(re.findall(r"^=== (.*)$", statistics, re.MULTILINE)).split("; "))
    assert statistics.count(" 1 file changed, 1 insertion(+)") == 1
    assert statistics.count(" 2 files changed, 2 insertions(+)") == 1
    assert everywhere.startswith(f"=== in all sets\n{EVERYWHERE}--- a/alembic.ini\n+++ b/alembic.ini\n@@ ")
    assert some.startswith(f"=== in {'; '.join(with_accounts)}\n{PLANTED}new file mode 100644\n--- /dev/null\n")
    assert [line for line in done.stdout.splitlines() if re.match(r"[+-](?![+-])", line)] == [
        "+# Another line.",
        "+Planted.",
    ]
    assert ".copier-answers.yml" not in done.stdout


def test_the_last_release_is_compared_with_if_no_other_is_named(changed_template: Path) -> None:
    done = run("render_diff", changed_template, "--stat")

    assert done.returncode == 0
    assert f": {OLD}, and now" in done.stderr
    assert " alembic.ini " in done.stdout
    assert "diff --git" not in done.stdout


def test_a_release_is_found_by_its_record_and_has_no_questions_that_came_later(repository: Path) -> None:
    git(repository, "tag", "--delete", "v0.1.0")
    done = run("render_diff", repository, "--from=v0.1.0", "--stat")

    assert done.returncode == 0
    assert ": 0.1.0, and now" in done.stderr
    assert " app/files/models.py " in done.stdout


def test_only_what_was_asked_and_could_be_answered_is_passed_to_a_release() -> None:
    questions = {
        "ci": {"type": "str", "choices": {"GitHub": "github"}},
        "name": {"type": "str"},
        "on": {"type": "bool"},
    }

    assert known_answers({"ci": "gitlab", "auth": "jwt"}, questions) == {}
    possible = {"ci": "github", "name": "x", "on": False}
    assert known_answers(possible, questions) == possible


def test_a_release_that_does_not_exist_is_refused(repository: Path) -> None:
    done = run("render_diff", repository, "--from=v0.0.1")

    known = ", ".join(releases())
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"FROM=v0.0.1 is neither a release nor a commit. The releases: {known}.\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_leaves_nothing_when_it_is_stopped(number: signal.Signals, repository: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "tools.render_diff"],
        cwd=repository,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        until = time.monotonic() + WAITING
        while not list(temporary.glob("render-diff-*/0/before/*")):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.01)
        os.killpg(process.pid, number)
        out, err = process.communicate(timeout=WAITING)

    assert process.returncode == 128 + number
    assert out == ""
    assert "Traceback" not in err
    assert list(temporary.iterdir()) == []


def diff_of(path: str, *hunks: tuple[int, str]) -> str:
    """Return a diff of one file."""
    header = f"diff --git a/{path} b/{path}\nindex {abs(hash((path, hunks))):x}..1 100644\n--- a/{path}\n+++ b/{path}\n"
    return header + "".join(f"@@ -{line} +{line} @@ def f():\n-old\n+{new}\n" for line, new in hunks)


def test_a_hunk_is_the_same_wherever_it_is_in_the_file() -> None:
    groups = shown_once({"a": diff_of("x", (1, "one"), (9, "two")), "b": diff_of("x", (5, "two"), (7, "three"))})

    assert list(groups) == [("a", "b"), ("a",), ("b",)]
    assert [re.findall(r"\n\+(\w+)", text) for text in groups.values()] == [["two"], ["one"], ["three"]]
    assert [text.count("diff --git a/x b/x\n") for text in groups.values()] == [1, 1, 1]


def test_a_hunk_is_not_the_same_in_another_file_and_not_lost_when_a_file_has_it_twice() -> None:
    once, twice = diff_of("x", (1, "one")), diff_of("x", (1, "one"), (9, "one"))
    groups = shown_once({"a": twice, "b": once + diff_of("y", (1, "one"))})

    assert [(titles, text.count("+one")) for titles, text in groups.items()] == [
        (("a", "b"), 1),
        (("a",), 1),
        (("b",), 1),
    ]


def test_a_change_that_has_no_lines_is_shown() -> None:
    renamed = "diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n"

    assert shown_once({"a": renamed, "b": renamed}) == {("a", "b"): renamed}
