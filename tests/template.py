"""The template: where it is, what it asks, and how it is rendered."""

import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import copier
import yaml

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = ROOT / "template"
RELEASES: dict[str, str] = tomllib.loads((ROOT / "releases.toml").read_text(encoding="utf-8"))["releases"]
"""Each released version, and its commit."""
NEWEST = "v9999.0.0"
"""The tag that makes the checkout, as it is now, the newest release."""
CONFIGURATION: dict[str, Any] = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
# Those that are asked: the others are worked out.
QUESTIONS: dict[str, dict[str, Any]] = {
    name: details
    for name, details in CONFIGURATION.items()
    if not name.startswith("_") and details.get("when") is not False
}


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


def release_template(folder: Path) -> Path:
    """Clone this repository as `clone_template` does, and release what is there now. All older releases have tags."""
    clone_template(folder)
    for version, commit in RELEASES.items():
        git(folder, "tag", "--force", "--annotate", f"v{version}", "--message", version, commit)
    git(folder, "tag", "--annotate", NEWEST, "--message", "The checkout as it is")
    return folder


def render(template: Path, folder: Path, version: str = "HEAD", **answers: Any) -> Path:
    """Render one version of the template into a folder, as anybody can who trusts nothing. Returns the folder."""
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


def texts(folder: Path) -> dict[str, str]:
    """Return the text of every file below a folder, by its path."""
    return {name: content.decode() for name, content in contents(folder).items()}
