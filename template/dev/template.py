# /// script
# requires-python = ">=3.11"
# dependencies = ["copier>=9.19,<10"]
# ///
"""What `make template-update` and `make template-check` run: Copier, and what it leaves to whoever calls it.

Copier merges what is new with what the project has become. It says nothing of conflicts in its exit code, deletes a
file that the template has dropped although it was changed here, and knows nothing of migrations or of `uv.lock`. Apart
from Copier this needs only git, uv and the standard library, so that no state of the project is in its way.
"""

import argparse
import ast
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

ANSWERS = Path(".copier-answers.yml")
MIGRATIONS = Path("alembic/versions")
FOLDERS: dict[tuple[str, str], tuple[str, ...]] = {
    ("example", "true"): ("app/projects", "app/tasks"),
    ("auth", "api_key"): ("app/api_keys",),
    ("auth", "jwt"): ("app/auth",),
    ("object_storage", "true"): ("app/files",),
}
"""An answer, and the folders of the feature that it stands for."""
OFF = {"example": "false", "auth": "none", "object_storage": "false"}
MARKERS = ("<<<<<<< before updating", ">>>>>>> after updating")
LOCK = Path("uv.lock")
GIT_SETTINGS = {
    "color.ui": "false",
    "commit.gpgSign": "false",
    "core.hooksPath": os.devnull,
    "core.quotePath": "false",
    "diff.mnemonicPrefix": "false",
    "diff.noprefix": "false",
    "merge.conflictStyle": "merge",
    "status.branch": "false",
    "status.showUntrackedFiles": "normal",
    "tag.gpgSign": "false",
}
"""How git is set up while this runs, for Copier too: what it prints is read, and what it commits is thrown away."""
NEWER = 2
"""The exit code of `copier check-update` when there is a newer version."""


class TemplateError(Exception):
    """It could not be done, or not all of it; the message says why, and what to do next."""


def run(*command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program without letting it ask anything. Its exit code is for the caller to judge."""
    first = int(os.environ.get("GIT_CONFIG_COUNT") or 0)
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    environment["GIT_CONFIG_COUNT"] = str(first + len(GIT_SETTINGS))
    for number, (key, value) in enumerate(GIT_SETTINGS.items(), first):
        environment |= {f"GIT_CONFIG_KEY_{number}": key, f"GIT_CONFIG_VALUE_{number}": value}
    return subprocess.run(command, env=environment, input=text or "", capture_output=True, text=True, check=False)


def git(*arguments: str) -> str:
    """Run git in the project. Returns its output; raises TemplateError with what it complains about."""
    done = run("git", *arguments)
    if done.returncode:
        raise TemplateError(f"git {arguments[0]} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout


def paths(command: str, *arguments: str) -> list[Path]:
    """Run a git command that lists files. Returns their paths as they are from here."""
    return sorted({Path(name) for name in git(command, "-z", *arguments).split("\0") if name})


def uncommitted(*pathspecs: str) -> list[str]:
    """Return what is not committed, each with its status: all that is below the current folder, or some of it."""
    return git("status", "--porcelain", "-z", "--no-renames", "--", ".", *pathspecs).split("\0")[:-1]


def copier(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Copier, which never needs to trust this template."""
    return run(sys.executable, "-W", "ignore", "-m", "copier", *arguments)


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """Return what Copier, or git on its behalf, has complained about, in a line."""
    lines = [line.strip(" |") for line in done.stderr.splitlines() if line.strip(" |")]
    fatal = re.findall(r"(?:fatal|error): .*", done.stderr)
    return (fatal or lines or [f"exit code {done.returncode}"])[-1]


def read_answers(text: str) -> dict[str, str]:
    """Read the answers file: each answer as it is written there, quotes included."""
    entries = re.split(r"(?m)^(?=\w)", re.sub(r"(?m)^#.*\n", "", text))
    return {key: value.strip() for key, _, value in (entry.partition(":") for entry in entries if entry.strip())}


def unquote(value: str) -> str:
    """Return an answer without the quotes that YAML needs around some."""
    return value.strip("'\"")


def current_answers() -> dict[str, str]:
    """Return the project's answers. Raises TemplateError if they do not say where the project comes from."""
    text = ANSWERS.read_text(encoding="utf-8") if ANSWERS.is_file() else ""
    answers = read_answers(text)
    missing = [key for key in ("_commit", "_src_path") if not unquote(answers.get(key, ""))]
    if missing:
        raise TemplateError(
            f"{ANSWERS} does not say {' and '.join(missing)}, so nobody knows what this project was made from.\n"
            f"Bring it back from an older commit, which `git log -- {ANSWERS}` shows."
        )
    return answers


def require_a_clean_tree() -> None:
    """Refuse to begin while something is not committed: what the update does has to be seen, and undone, by itself."""
    if run("git", "rev-parse", "--verify", "--quiet", "HEAD").returncode:
        raise TemplateError("This is no git repository with a commit: git init, commit everything, and try again.")
    if changes := uncommitted(":(exclude)uv.lock"):
        more = [f"  and {len(changes) - 10} more"] if len(changes) > 10 else []
        raise TemplateError(
            "\n".join(
                ["Commit these or stash them first, so that the update can be seen by itself:", *changes[:10], *more]
            )
        )


@contextmanager
def lock_set_aside() -> Generator[None]:
    """Hide an uncommitted `uv.lock`, which every `uv run` may write, from Copier: it wants a clean tree."""
    if not git("status", "--porcelain", "-z", "--", str(LOCK)):
        yield
        return
    content = LOCK.read_bytes() if LOCK.exists() else None
    git("rm", "--cached", "--force", "--quiet", "--ignore-unmatch", "--", str(LOCK))
    LOCK.unlink(missing_ok=True)
    if git("ls-tree", "-z", "HEAD", "--", str(LOCK)):
        git("checkout", "HEAD", "--", str(LOCK))
    try:
        yield
    finally:
        LOCK.unlink(missing_ok=True)
        if content is not None:
            LOCK.write_bytes(content)


def require_unchanged_answers() -> None:
    """Refuse answers that were changed by hand: Copier would take it that the project has always had them."""
    text = ANSWERS.read_text(encoding="utf-8")
    written = re.search(r"(?m)^# Checksum: (\w+)$", text)
    answers = re.sub(r"(?m)^(#|_src_path:).*\n", "", text)
    if written and written[1] != hashlib.sha256(answers.encode()).hexdigest():
        raise TemplateError(
            f"{ANSWERS} was changed by hand, and Copier would not see that as a change. Take it back, which\n"
            f"`git log --patch -- {ANSWERS}` helps with, and give the answer to the update instead:\n"
            '  make template-update ARGS="--data question=answer"'
        )


def given_answers(arguments: Sequence[str]) -> set[str]:
    """Return the questions that are answered on the command line."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("-d", "--data", action="append", default=[])
    return {answer.partition("=")[0] for answer in parser.parse_known_args(arguments)[0].data}


def switched_off(answers: dict[str, str], given: set[str]) -> list[str]:
    """Return the arguments that switch features off whose folders are gone, so that nothing of them comes back."""
    arguments: list[str] = []
    for (question, answer), folders in FOLDERS.items():
        gone = not any(Path(folder).exists() for folder in folders)
        if answers.get(question) == answer and gone and question not in given:
            print(f"{' and '.join(folders)} gone: {question} is {OFF[question]} from now on.")
            arguments += ["--data", f"{question}={OFF[question]}"]
    return arguments


def restore_changed_files(answers: dict[str, str]) -> list[str]:
    """Bring back what the update has deleted although it had been changed here. Returns what there is to say."""
    deleted = paths("diff", "--name-only", "--diff-filter=D", "--relative", "HEAD")
    if not deleted:
        return []
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder, Path.cwd().name)
        source, version = (unquote(answers[key]) for key in ("_src_path", "_commit"))
        Path(folder, "answers.yml").write_text(git("show", f"HEAD:./{ANSWERS}"), encoding="utf-8")
        done = copier(
            *("copy", "--quiet", "--defaults", "--vcs-ref", version, "--data-file", f"{folder}/answers.yml"),
            *(source, str(before)),
        )
        if done.returncode:
            raise TemplateError(f"What was deleted could not be compared with the template: {complaint(done)}")
        kept = [
            path
            for path in deleted
            if not (before / path).is_file()
            or (before / path).read_bytes() != git("show", f"HEAD:./{path}").encode("utf-8")
        ]
    for path in kept:
        git("checkout", "HEAD", "--", str(path))
    return [f"{path} is not in the template any more, but was changed here, so it is still there." for path in kept]


def revision_of(migration: Path) -> tuple[str, set[str]]:
    """Read which revision a migration makes, and which ones it follows."""
    values: dict[str, object] = {}
    for statement in ast.parse(migration.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Constant | ast.Tuple):
            target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
            if isinstance(target, ast.Name):
                values[target.id] = ast.literal_eval(statement.value)
    before = values.get("down_revision")
    follows = before if isinstance(before, tuple) else (before,)
    return str(values.get("revision")), {str(revision) for revision in follows if revision is not None}


def line_up_migrations() -> list[str]:
    """Let migrations that came with the update follow the project's own. Returns what there is to say."""
    new = paths("ls-files", "--others", "--exclude-standard", "--", f"{MIGRATIONS}/*.py")
    if not new:
        return []
    old = [revision_of(path) for path in sorted(MIGRATIONS.glob("*.py")) if path not in new]
    heads = {revision for revision, _ in old} - {before for _, follows in old for before in follows}
    if len(heads) > 1:
        return [f"The migrations had several heads before: {', '.join(sorted(heads))}. Merge them: alembic merge heads"]
    head = next(iter(heads), None)
    for path in new:
        revision, follows = revision_of(path)
        if follows != ({head} if head else set()):
            text = path.read_text(encoding="utf-8")
            text = re.sub(r"(?m)^Revises:.*$", f"Revises: {head}", text, count=1)
            text = re.sub(r"(?m)^down_revision\b.*$", f"down_revision = {json.dumps(head)}", text, count=1)
            path.write_text(text, encoding="utf-8")
            print(f"{path} follows {head}.")
        head = revision
    return []


def conflicts() -> list[str]:
    """Look for what the merge could not decide. Returns what there is to say."""
    unmerged = set(paths("diff", "--name-only", "--diff-filter=U", "--relative"))
    changed = paths("diff", "--name-only", "--diff-filter=d", "--relative", "HEAD")
    changed += paths("ls-files", "--others", "--exclude-standard")
    for path in changed:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        if any(line.startswith(MARKERS) for line in lines):
            unmerged.add(path)
    rejected = paths("ls-files", "--others", "--", "*.rej")
    return [
        *(f"{path} has a conflict: decide between <<<<<<< and >>>>>>>, then git add it." for path in sorted(unmerged)),
        *(f"{path} has changes that could not be applied: make them by hand, then delete it." for path in rejected),
    ]


def renew_lock() -> list[str]:
    """Let `uv.lock` follow pyproject.toml, if the project has one. Returns what there is to say."""
    if not LOCK.is_file():
        return []
    done = run(os.environ.get("UV", "uv"), "lock", "--quiet")
    return [f"uv.lock no longer matches pyproject.toml; uv lock says: {complaint(done)}"] if done.returncode else []


def lost_answers(before: dict[str, str], given: set[str]) -> list[str]:
    """Look for answers that the template no longer accepts. Returns what there is to say."""
    after = current_answers()
    return [
        f"The answer to {question} was {answer} and is now {after.get(question, 'gone')}."
        for question, answer in before.items()
        if not question.startswith("_") and question not in given and after.get(question) != answer
    ]


def unusable(answers: dict[str, str], done: subprocess.CompletedProcess[str]) -> str:
    """Say why Copier could not work with the template."""
    return (
        f"The template at {answers['_src_path']} could not be used: {complaint(done)}\n"
        f"It has to be reachable from here, with {answers['_commit']} in its history. "
        f"If it has moved, change _src_path in {ANSWERS} and commit that."
    )


def update(arguments: Sequence[str]) -> None:
    """Update the project. Raises TemplateError if that cannot be done, or if something is left to be done by hand."""
    require_a_clean_tree()
    answers = current_answers()
    require_unchanged_answers()
    arguments = [*arguments, *switched_off(answers, given_answers(arguments))]
    print(f"--- Updating from {answers['_src_path']}, which takes some seconds", flush=True)
    with lock_set_aside():
        done = copier("update", "--quiet", "--defaults", *arguments)
    if done.returncode:
        undo = "\nWhat it did can be undone: git restore --staged --worktree . && git clean --force -d ."
        raise TemplateError(unusable(answers, done) + (undo if uncommitted() else ""))
    left = [
        *conflicts(),
        *restore_changed_files(answers),
        *line_up_migrations(),
        *renew_lock(),
        *lost_answers(answers, given_answers(arguments)),
    ]
    if left:
        heading = "The update is made, but not all of it went by itself. docs/template.md says what to do."
        raise TemplateError("\n".join([heading, *(f"- {line}" for line in left)]))
    if uncommitted(":(exclude)uv.lock"):
        print(f"The project is at {current_answers()['_commit']} now. Look at it, run make check, and commit it.")
    else:
        print("There is nothing new.")


def check() -> None:
    """Ask whether the template has a newer version. Raises TemplateError if it has, or if nobody can tell."""
    answers = current_answers()
    done = copier("check-update", "--quiet")
    if done.returncode == NEWER:
        raise TemplateError(f"The template has a newer version than {answers['_commit']}: make template-update")
    if done.returncode:
        raise TemplateError(unusable(answers, done))
    print(f"This is the template's newest version: {answers['_commit']}")


def main() -> int:
    """Do in the current folder what the command line says. Returns the exit code."""
    command, *arguments = sys.argv[1:]
    try:
        check() if command == "check" else update(arguments)
    except TemplateError as refused:
        print(refused, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
