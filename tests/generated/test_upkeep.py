"""What keeps a rendered project in shape: the hooks of git, and what its CI asks beside the tests."""

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.generated.postgres import Server
from tests.generated.service import Service
from tests.processes import run
from tests.template import git, render

WRONG = {
    "lint": ("app/wrong.py", '"""Not needed."""\n\nimport os\n', "F401"),
    "format": ("app/wrong.py", '"""Odd."""\n\nx: int   =  1\n', "wrong.py"),
    "types": ("app/wrong.py", '"""Wrong."""\n\nx: int = "1"\n', "bad-assignment"),
    "conflict": ("README.md", "<<<<<<< before updating\na\n=======\nb\n>>>>>>> after updating\n", "conflict"),
    "key": ("key.pem", f"-----BEGIN {'RSA'} PRIVATE KEY-----\n", "key.pem"),
    "toml": ("wrong.toml", "a = \n", "wrong.toml"),
    "yaml": ("wrong.yml", "a: [\n", "wrong.yml"),
}


def git_of(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git as the service's developer does."""
    return run(["git", *arguments], service.project, service.environment(), service.account)


@pytest.fixture
def repository(service: Service, tmp_path: Path) -> Service:
    """A service in a git repository that has the hooks, with everything committed, where there is no network."""
    identity = {f"GIT_{who}_{what}": "x@example.com" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    alone = {"GIT_CONFIG_GLOBAL": os.devnull, "PREK_HOME": str(tmp_path / "prek"), "UV_OFFLINE": "1"}
    toolbox = replace(service.toolbox, variables=service.toolbox.variables | identity | alone)
    service = replace(service, toolbox=toolbox)
    git_of(service, "init", "--quiet")
    assert service.make("hooks").returncode == 0
    git_of(service, "add", "--all")
    done = git_of(service, "commit", "--message", "Begin")
    assert done.returncode == 0, done.stdout + done.stderr
    return service


@pytest.mark.parametrize("kind", WRONG)
def test_a_commit_of_something_wrong_is_refused(kind: str, repository: Service) -> None:
    name, text, complaint = WRONG[kind]
    (repository.project / name).write_text(text)
    git_of(repository, "add", "--all")
    done = git_of(repository, "commit", "--message", "Wrong")

    assert done.returncode != 0
    assert complaint in done.stdout + done.stderr
    assert git_of(repository, "log", "--format=%s").stdout == "Begin\n"


def test_a_good_commit_passes_whatever_else_lies_about(repository: Service) -> None:
    (repository.project / "app" / "good.py").write_text('"""Good."""\n')
    git_of(repository, "add", "--all")
    (repository.project / "scratch.py").write_text("import os\n")
    done = git_of(repository, "commit", "--message", "Good")

    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"make (lint|typecheck)\.+Passed", done.stdout + done.stderr)) == 2


def test_hooks_ask_for_a_git_repository(service: Service) -> None:
    done = service.make("hooks")

    assert done.returncode != 0
    assert "git init" in done.stdout + done.stderr


def test_a_model_without_a_migration_is_found_on_an_empty_database(service: Service, own_server: Server) -> None:
    own_server.run("CREATE DATABASE upkeep")
    try:
        variables = {"DATABASE_URL": own_server.url("upkeep")}
        before = [service.make(target, **variables).returncode for target in ("migrate", "migration-check")]
        models = service.project / "app" / "projects" / "models.py"
        models.write_text(
            models.read_text().replace("    name: Mapped", "    extra: Mapped[str | None]\n    name: Mapped", 1)
        )
        done = service.make("migration-check", **variables)
    finally:
        own_server.run("DROP DATABASE upkeep")

    assert before == [0, 0]
    assert done.returncode != 0
    assert "'projects.extra'" in done.stdout + done.stderr


def test_a_newer_version_of_the_template_is_noticed(template: Path, service: Service, tmp_path: Path) -> None:
    source = tmp_path / "template"
    git(tmp_path, "clone", "--quiet", str(template), str(source))
    git(source, "tag", "v1000.0.0")
    project = render(source, tmp_path / "my-service")
    service = replace(service, project=project)
    before = service.make("template-check")
    git(source, "commit", "--quiet", "--allow-empty", "--message", "Newer")
    git(source, "tag", "v1000.0.1")
    after = service.make("template-check")

    assert before.returncode == 0, before.stdout + before.stderr
    assert after.returncode != 0
    assert "The template has a newer version than v1000.0.0: make template-update" in after.stderr
