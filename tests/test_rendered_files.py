"""What every rendered file is like, whatever was answered."""

import html
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.answers import FEATURES, RENDERS
from tests.template import ROOT, TEMPLATE, texts, tracked_files

PYTHON_SUFFIXES = (".py", ".mako")
OPTIONAL = {"tests/settings.env"}
"""Files that the pages name and that a project has only if its owner adds them."""
JINJA = re.compile(r"(?<!\$)\{\{|\{%|\{#")


def ruff(renders: dict[str, Path], *command: str) -> str:
    """Run ruff once over all renders, each with the configuration that it was rendered with. Returns its complaints."""
    folder = next(iter(renders.values())).parent.parent
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", folder], capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_ruff_finds_nothing_in_any_render(
    renders: dict[str, Path], record_property: Callable[[str, object], None]
) -> None:
    for name, answers in RENDERS.items():
        record_property("answers", json.dumps({"what": name, "answers": answers}))
    assert ruff(renders, "check") == ""


def test_ruff_would_format_nothing_in_any_render(renders: dict[str, Path]) -> None:
    assert ruff(renders, "format", "--check") == ""


def test_ruff_is_really_asked_about_the_renders(tmp_path: Path, renders: dict[str, Path]) -> None:
    projects = {name: tmp_path / name / "my-service" for name in ("first", "last")}
    for name, project in projects.items():
        project.mkdir(parents=True)
        (project / "ruff.toml").write_bytes((renders["defaults"] / "ruff.toml").read_bytes())
        (project / f"{name}.py").write_text("import os\nx=1\n")

    complaints = ruff(projects, "check"), ruff(projects, "format", "--check")
    assert "F401" in complaints[0]
    assert all(f"{name}.py" in complaint for complaint in complaints for name in projects)


def test_every_file_ends_with_one_newline(a_render: Path) -> None:
    wrong = [
        name for name, text in texts(a_render).items() if text and (not text.endswith("\n") or text.endswith("\n\n"))
    ]
    assert wrong == []


def test_no_line_ends_with_a_space(a_render: Path) -> None:
    wrong = [name for name, text in texts(a_render).items() if re.search(r"[ \t\r]$", text, re.MULTILINE)]
    assert wrong == []


def test_no_file_but_python_has_double_blank_lines(a_render: Path) -> None:
    files = {name: text for name, text in texts(a_render).items() if not name.endswith(PYTHON_SUFFIXES)}
    wrong = [name for name, text in files.items() if "\n\n\n" in re.sub(r"(?s)```python.*?```", "python", text)]
    assert wrong == []


@pytest.mark.parametrize("name", [name for name in RENDERS if not JINJA.search(str(RENDERS[name]))])
def test_no_jinja_is_left(name: str, renders: dict[str, Path]) -> None:
    files = texts(renders[name])
    assert [path for path, text in files.items() if JINJA.search(path) or JINJA.search(text)] == []


def test_toml_and_yaml_can_be_read(a_render: Path) -> None:
    read = 0
    for name, text in texts(a_render).items():
        if name.endswith(".toml"):
            tomllib.loads(text)
        elif name.endswith((".yml", ".yaml")):
            list(yaml.safe_load_all(text))
        else:
            continue
        read += 1
    assert read >= 3


@pytest.mark.parametrize("name", RENDERS)
def test_the_package_has_the_answers_word_for_word(name: str, renders: dict[str, Path]) -> None:
    answers = yaml.safe_load((renders[name] / ".copier-answers.yml").read_text(encoding="utf-8"))
    pyproject = tomllib.loads((renders[name] / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]

    assert RENDERS[name].items() <= answers.items()
    assert project["name"] == answers["project_slug"]
    assert project["description"] == answers["project_description"]
    assert project["authors"][0]["name"] == answers["author_name"]
    assert project["authors"][0].get("email", "") == answers["author_email"]
    assert project.get("license", "Proprietary") == answers["license"]
    assert pyproject["tool"]["app"]["title"] == answers["project_name"]


@pytest.mark.parametrize("name", RENDERS)
def test_readme_and_licence_have_the_answers_word_for_word(name: str, renders: dict[str, Path]) -> None:
    answers = yaml.safe_load((renders[name] / ".copier-answers.yml").read_text(encoding="utf-8"))

    readme = html.unescape((renders[name] / "README.md").read_text(encoding="utf-8"))
    assert readme.startswith(f"# {answers['project_name']}\n\n{answers['project_description'].strip()}\n")
    if answers["license"] != "Apache-2.0":  # Its text names nobody.
        assert answers["author_name"].strip() in (renders[name] / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["defaults", "no-example", *FEATURES])
def test_every_file_that_the_pages_name_exists(name: str, renders: dict[str, Path]) -> None:
    missing: list[str] = []
    for path, text in texts(renders[name]).items():
        if path.endswith(".md"):
            named = re.findall(r"`((?:app|alembic|dev|docs|tests)/[\w./-]*\w/?)(?:::[\w:]+)?`", text)
            missing += [f"{path}: {file}" for file in {*named} - OPTIONAL if not (renders[name] / file).exists()]
    assert missing == []


@pytest.mark.parametrize("name", ["defaults", "no-example", *FEATURES])
def test_every_test_that_the_pages_name_exists(name: str, renders: dict[str, Path]) -> None:
    files = texts(renders[name])
    source = "\n".join(text for path, text in files.items() if path.endswith(".py"))
    missing: list[str] = []
    for path, text in files.items():
        if path.endswith(".md"):
            missing += [test for test in re.findall(r"\b(test_\w+)`", text) if f"def {test}(" not in source]
    assert missing == []


@pytest.mark.parametrize("name", ["defaults", "no-example", *FEATURES])
def test_every_link_between_the_pages_leads_somewhere(name: str, renders: dict[str, Path]) -> None:
    links = [
        (page, link)
        for page in renders[name].rglob("*.md")
        for link in re.findall(r"\]\((?!https?://)([^)]+)\)", page.read_text(encoding="utf-8"))
    ]
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []

    linked = {page.parent / link for page, link in links if page.name == "README.md"}
    assert set((renders[name] / "docs").iterdir()) == linked


def settings_in(text: str) -> dict[str, str]:
    """Return the variables in the lines of an environment file, also those that are commented out."""
    return dict(re.findall(r"^(?:# )?([A-Z]\w+)=(.*)$", text, re.MULTILINE))


def settings_on_the_page(project: Path) -> dict[str, str]:
    """Return the variables that the page on settings has in its block."""
    page = (project / "docs" / "settings.md").read_text(encoding="utf-8")
    _, block, _ = re.split(r"^```(?:sh)?$", page.partition("\n```python\n")[0], flags=re.MULTILINE)
    return settings_in(block)


@pytest.mark.parametrize("name", ["defaults", *FEATURES])
def test_the_numbers_on_the_page_of_the_settings_are_the_defaults(name: str, renders: dict[str, Path]) -> None:
    numbers = {key: int(value) for key, value in settings_on_the_page(renders[name]).items() if value.isdecimal()}
    sources = "\n".join(path.read_text(encoding="utf-8") for path in renders[name].glob("app/*/config.py"))
    # Or, where it depends on the environment, that of production.
    number = r"^    ([a-z]\w+): .* = (?:Field\(default_factory=lambda data: )?(\d[\d_]*(?: ?\*+ ?\d+)*)"
    defaults = re.findall(number, sources, re.MULTILINE)

    assert len(numbers) > 10
    assert numbers == {variable.upper(): eval(default) for variable, default in defaults}  # noqa: S307 - digits and asterisks


def test_the_example_file_says_what_the_page_of_the_settings_says(a_render: Path) -> None:
    example = settings_in((a_render / ".env.example").read_text(encoding="utf-8"))

    assert example
    assert example.items() <= settings_on_the_page(a_render).items()


def test_at_least_four_fifths_of_the_template_are_plain_files() -> None:
    names = [path.name for path in tracked_files() if path.is_relative_to(TEMPLATE)]
    assert sum(not name.endswith(".jinja") for name in names) / len(names) >= 0.8


def test_python_in_the_template_has_at_most_three_blocks_a_file() -> None:
    counts = {str(path.relative_to(ROOT)): path.read_text().count("{%") for path in TEMPLATE.rglob("*.py.jinja")}
    assert {path: count for path, count in counts.items() if count > 3} == {}
