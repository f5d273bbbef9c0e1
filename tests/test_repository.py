"""What holds for every file of this repository."""

import re
import tomllib
from pathlib import Path

from tests.template import ROOT, tracked_files

# In pieces, so that this file does not name them either.
REGISTRIES = ("py" + "pi.org", "python" + "hosted.org", "npm" + "js.org", "yarn" + "pkg.com", "cra" + "tes.io")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_no_file_names_a_package_registry() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}: {host}" for path in tracked_files() for host in REGISTRIES if host in text_of(path)
    ]
    assert wrong == []


def test_no_file_names_a_folder_of_this_machine() -> None:
    folders = [str(ROOT), f"{Path.home()}/"]
    wrong = [
        str(path.relative_to(ROOT)) for path in tracked_files() if any(folder in text_of(path) for folder in folders)
    ]
    assert wrong == []


def test_no_lock_file_and_no_secret_file_is_kept() -> None:
    assert [path.name for path in tracked_files() if path.name in {"uv.lock", ".env"}] == []


def test_every_file_ends_with_one_newline_and_no_line_with_a_space() -> None:
    wrong = []
    for path in tracked_files():
        text = text_of(path)
        if text and (not text.endswith("\n") or text.endswith("\n\n") or re.search(r"[ \t\r]$", text, re.MULTILINE)):
            wrong.append(str(path.relative_to(ROOT)))
    assert wrong == []


def test_all_tooling_is_pinned_with_hashes() -> None:
    pins = re.split(r"\n(?=\w)", re.sub(r"(?m)^ *#.*\n", "", text_of(ROOT / "requirements" / "tooling.txt")).strip())
    assert [
        pin for pin in pins if not re.match(r"[\w-]+(\[\w+\])?==[\w.]+.*\\\n +--hash=sha256:[0-9a-f]{64}", pin)
    ] == []

    wanted = tomllib.loads(text_of(ROOT / "pyproject.toml"))["dependency-groups"]["tooling"]
    pinned = {re.split(r"[=\[ ]", pin)[0] for pin in pins}
    assert [name for name in wanted if re.split(r"[>=\[ ]", name)[0] not in pinned] == []


def test_the_newest_version_has_a_changelog_entry() -> None:
    version = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["version"]
    assert re.search(
        rf"^## \[?{re.escape(version)}\]? - \d{{4}}-\d\d-\d\d$", text_of(ROOT / "CHANGELOG.md"), re.MULTILINE
    )
