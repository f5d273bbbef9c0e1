"""The template: where it is, what it asks, and how it is rendered."""

from pathlib import Path
from typing import Any

import yaml

from tools.checkout import ROOT, Questions, asked, clone_template, contents, git, render, tracked_files
from tools.releases import releases

__all__ = [
    "CONFIGURATION",
    "NEWEST",
    "QUESTIONS",
    "RELEASES",
    "ROOT",
    "TEMPLATE",
    "clone_template",
    "contents",
    "git",
    "release_template",
    "render",
    "texts",
    "tracked_files",
]

TEMPLATE = ROOT / "template"
RELEASES = releases()
"""Each released version, and its commit."""
NEWEST = "v9999.0.0"
"""The tag that makes the checkout, as it is now, the newest release."""
CONFIGURATION: dict[str, Any] = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
# Those that somebody is asked; the others only compute.
QUESTIONS: Questions = asked(CONFIGURATION)


def release_template(folder: Path) -> Path:
    """Clone this repository as `clone_template` does, and release what is there now. All older releases have tags."""
    clone_template(folder)
    for version, commit in RELEASES.items():
        git(folder, "tag", "--force", "--annotate", f"v{version}", "--message", version, commit)
    git(folder, "tag", "--annotate", NEWEST, "--message", "The checkout as it is")
    return folder


def texts(folder: Path) -> dict[str, str]:
    """Return the text of every file below a folder, by its path."""
    return {name: content.decode() for name, content in contents(folder).items()}
