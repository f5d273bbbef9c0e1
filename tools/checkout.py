"""This checkout: its files, a clone of it as it is now, and what is rendered from that."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
ANSWERS_FILE = ".copier-answers.yml"
Questions = dict[str, dict[str, Any]]


def isolate_git() -> None:
    """Leave git no configuration but the one beside this file. Copier copies the environment when it is imported."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        del os.environ[name]
    os.environ |= {"GIT_CONFIG_GLOBAL": str(Path(__file__).with_name("gitconfig")), "GIT_CONFIG_SYSTEM": os.devnull}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder. Returns its output."""
    done = subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout


def tracked_files() -> list[Path]:
    """Return the files of this checkout that are in version control, or would be with the next commit."""
    names = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    return [ROOT / name for name in sorted(set(names)) if name and (ROOT / name).is_file()]


def clone_template(folder: Path) -> Path:
    """Clone this repository with its tags, and commit the checkout as it is now on top."""
    git(ROOT, "clone", "--quiet", "--no-checkout", str(ROOT), str(folder))
    for source in tracked_files():
        target = folder / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target)
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", "The checkout as it is")
    return folder


def extract(template: Path, commit: str, folder: Path) -> Path:
    """Put the files of one commit of the template into a folder, to render it often. Returns the folder."""
    git(template, "clone", "--quiet", "--shared", "--no-checkout", str(template), str(folder))
    git(folder, "checkout", "--quiet", "--detach", commit)
    shutil.rmtree(folder / ".git")
    return folder


def render(template: Path, folder: Path, version: str = "HEAD", **answers: Any) -> Path:
    """Render one version of the template into a folder, as anybody can who trusts nothing. Returns the folder."""
    import copier  # Not before git is set up.

    copier.run_copy(
        str(template),
        folder,
        data=answers,
        vcs_ref=version,
        defaults=True,
        quiet=True,
        unsafe=False,
        settings=copier.Settings(),
    )
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder, by its path."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(paths)}


def asked(configuration: dict[str, Any]) -> Questions:
    """Return the questions that a user is asked. Those that are never asked only compute an answer."""
    return {
        name: details
        for name, details in configuration.items()
        if not name.startswith("_") and details.get("when") is not False
    }


def questions_at(commit: str) -> Questions:
    """Return the questions that a user was asked at a commit."""
    return asked(yaml.safe_load(git(ROOT, "show", f"{commit}:copier.yml")))


def values(question: dict[str, Any]) -> list[Any]:
    """Return all answers that a question can have, or none where any text is one."""
    if question.get("type") == "bool":
        return [True, False]
    choices = question.get("choices", [])
    return list(choices.values() if isinstance(choices, dict) else choices)
