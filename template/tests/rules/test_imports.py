"""What is imported is declared in `pyproject.toml`: here everything is installed, and in production only that."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, files

from tests.harness.server import PROJECT

PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
SERVICE = PYPROJECT["project"]["dependencies"]
DEVELOPMENT = PYPROJECT["dependency-groups"]["dev"]
BELONGS_TO = {
    "fastapi": {"pydantic", "pydantic_core", "starlette"},
    "pydantic-settings": {"dotenv"},
    "uvicorn": {"httptools"},
}
"""Packages, and the modules of others that they are made for."""


def imports(*folders: str) -> Iterator[tuple[str, str]]:
    """Yield each module, without what is in it, that a file below one of the folders imports; and the file."""
    for path in sorted(path for folder in folders for path in (PROJECT / folder).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if text.startswith("# /// script"):  # It says itself what it needs.
            continue
        for node in ast.walk(ast.parse(text)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.append(node.module)
            yield from ((name.partition(".")[0], str(path.relative_to(PROJECT))) for name in names)


def modules_of(requirements: list[str]) -> set[str]:
    """Return the modules that come with some packages."""
    modules = {*sys.stdlib_module_names}
    for package in (re.split(r"[^\w.-]", requirement)[0] for requirement in requirements):
        modules |= BELONGS_TO.get(package, set())
        with suppress(PackageNotFoundError):  # It is for other systems.
            modules |= {file.parts[0].partition(".")[0] for file in files(package) or ()}
    return modules


def test_what_the_service_imports_is_declared() -> None:
    """In production there is nothing else."""
    allowed = modules_of(SERVICE) | {"app"}

    assert [f"{file} imports {module}" for module, file in imports("app", "alembic") if module not in allowed] == []


def test_what_development_imports_is_declared() -> None:
    """It may have what the service has, and the development tools."""
    allowed = modules_of(SERVICE + DEVELOPMENT) | {"app", "dev"}

    assert [f"{file} imports {module}" for module, file in imports("dev") if module not in allowed] == []
