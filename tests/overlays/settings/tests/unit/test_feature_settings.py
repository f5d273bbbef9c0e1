"""The example of docs/settings.md, as it stands there: a setting without a default turns no test red."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.server import PROJECT

HEALTH = "tests/integration/test_health.py::test_health_returns_200"
DOCUMENTED = "tests/unit/test_config.py::test_every_setting_is_documented"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with the page's feature."""
    page = (PROJECT / "docs" / "settings.md").read_text()
    page = page[page.index("## Settings of your own") :]
    code, example = (re.search(rf"```{language}\n(.*?)```", page, re.DOTALL) for language in ("python", "text"))
    assert code
    assert example
    ignored = shutil.ignore_patterns("__pycache__", ".git", ".venv", ".coverage", ".*_cache", ".postgres")
    project = Path(shutil.copytree(PROJECT, tmp_path / "project", ignore=ignored))
    feature = project / "app" / "mail"
    feature.mkdir()
    (feature / "__init__.py").touch()
    (feature / "config.py").write_text(f'"""The settings of mail."""\n\n{code[1]}')
    with (project / ".env.example").open("a") as file:
        file.write(example[1])
    return project


def run(project: Path, *tests: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run(
        command, cwd=project, env=environment | variables, capture_output=True, text=True, check=False
    )


def test_it_has_the_value_of_its_example(project: Path) -> None:
    (project / "tests" / "unit" / "test_mail.py").write_text(
        "from app.core.config import load\nfrom app.mail.config import MailSettings\n\n\n"
        "def test_it() -> None:\n    assert load(MailSettings).mail_sender == 'service@example.com'\n"
    )

    done = run(project, HEALTH, DOCUMENTED, "tests/unit/test_mail.py", MAIL_SENDER="developer@example.com")

    assert "3 passed" in done.stdout, done.stdout


def test_a_file_may_have_another_value(project: Path) -> None:
    (project / "tests" / "settings.env").write_text("MAIL_SENDER=tests@example.com\n")
    (project / "tests" / "unit" / "test_mail.py").write_text(
        "from app.core.config import load\nfrom app.mail.config import MailSettings\n\n\n"
        "def test_it() -> None:\n    assert load(MailSettings).mail_sender == 'tests@example.com'\n"
    )

    done = run(project, HEALTH, "tests/unit/test_mail.py")

    assert "2 passed" in done.stdout, done.stdout


def test_without_an_example_the_environment_has_it(project: Path) -> None:
    (project / ".env.example").unlink()

    assert "1 passed" in run(project, HEALTH, MAIL_SENDER="developer@example.com").stdout


def test_without_any_value_a_sentence_says_so(project: Path) -> None:
    (project / ".env.example").unlink()

    done = run(project, HEALTH)

    assert done.returncode != 0
    assert "MAIL_SENDER Field required" in done.stdout
    assert "Write an example of each into .env.example" in done.stdout
