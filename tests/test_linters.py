"""What the linters of other people say about the renders, and about this repository's own files of the same kinds."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.template import ROOT, TEMPLATE, tracked_files

YAMLLINT = {
    "extends": "default",
    "rules": {
        "braces": {"max-spaces-inside": 1},
        "comments": {"min-spaces-from-content": 1},
        "document-start": "disable",
        "line-length": {"max": 120},
        "quoted-strings": {"quote-type": "double", "required": False},
        "truthy": {"check-keys": False},
    },
}


@dataclass(frozen=True)
class Linter:
    """A program, the files it is for, and a file that it must not like."""

    command: tuple[str, ...]
    files: tuple[str, ...]
    wrong: tuple[str, str]
    complaint: str

    def complaints(self, files: list[Path]) -> str:
        """Run it once over all files. Returns what it says, or nothing if it is content."""
        program = Path(sys.executable).with_name(self.command[0])
        done = subprocess.run(
            [program, *self.command[1:], *files],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"NO_COLOR": "1"},
        )
        return "" if done.returncode == 0 else done.stdout + done.stderr


def schema(name: str, *files: str, wrong: str, options: tuple[str, ...] = ()) -> Linter:
    """Return a check against one of the schemas that come with check-jsonschema."""
    command = ("check-jsonschema", "--builtin-schema", name, *options)
    return Linter(command, files, (files[0].replace("*", "wrong"), wrong), "Schema validation errors")


COMPOSE = "docker-compose*.yml"
WORKFLOWS = ".github/workflows/*.yml"
LINTERS = {
    "zizmor": Linter(
        ("zizmor", "--offline", "--persona=pedantic", "--strict-collection", "--no-progress", "--quiet"),
        (WORKFLOWS, ".github/dependabot.yml", ".pre-commit-config.yaml"),
        (".github/workflows/wrong.yml", "on: pull_request_target\njobs: {a: {runs-on: x, steps: [{run: x}]}}\n"),
        "dangerous-triggers",
    ),
    "yamllint": Linter(
        ("yamllint", "--strict", "--config-data", json.dumps(YAMLLINT)),
        (WORKFLOWS, ".github/*.yml", ".gitlab-ci.yml", ".pre-commit-config.yaml", COMPOSE),
        ("wrong.yml", "a: 1\na: 2\n"),
        "key-duplicates",
    ),
    "hadolint": Linter(("hadolint",), ("Dockerfile",), ("Dockerfile", "FROM python\nRUN cd /x\n"), "DL3006"),
    "workflow": schema("vendor.github-workflows", WORKFLOWS, wrong="on: push\njobs: {a: {steps: []}}\n"),
    "time-outs": schema(
        "custom.github-workflows-require-timeout", WORKFLOWS, wrong="on: push\njobs: {a: {runs-on: x, steps: []}}\n"
    ),
    "dependabot": schema("vendor.dependabot", ".github/dependabot.yml", wrong="version: 3\n"),
    "gitlab": schema(
        "vendor.gitlab-ci", ".gitlab-ci.yml", options=("--data-transform=gitlab-ci",), wrong="a: {script: {}}\n"
    ),
    "renovate": schema("vendor.renovate", "renovate.json", wrong='{"packageRules": 1}'),
    "compose": schema("vendor.compose-spec", COMPOSE, wrong="services: {a: {port: 1}}\n"),
}


def own_files() -> list[Path]:
    """Return the files of this repository that are not of the template."""
    return [path for path in tracked_files() if not path.is_relative_to(TEMPLATE)]


@pytest.mark.parametrize("name", LINTERS)
def test_a_linter_finds_nothing_in_any_render(name: str, renders: dict[str, Path]) -> None:
    linter = LINTERS[name]
    files = [path for project in renders.values() for pattern in linter.files for path in project.glob(pattern)]
    assert files

    own = [path for path in own_files() for pattern in linter.files if path.relative_to(ROOT).match(pattern)]
    assert linter.complaints([*files, *own]) == ""


@pytest.mark.parametrize("name", LINTERS)
def test_a_linter_finds_what_is_wrong(name: str, tmp_path: Path) -> None:
    linter = LINTERS[name]
    file, text = linter.wrong
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)

    assert linter.complaint in linter.complaints([tmp_path / file])


def recipes(project: Path) -> Iterator[str]:
    """Yield what each target of a Makefile would have the shell do, with its variables filled in."""
    makefiles = [project / "Makefile", *project.glob("make/*.mk")]
    targets = [target for file in makefiles for target in re.findall(r"^([a-z][a-z-]*):", file.read_text(), re.M)]
    for target in targets:
        done = subprocess.run(
            ["make", "--dry-run", "--always-make", "--no-print-directory", target, "m=add somebody's notes", "name=x"],
            cwd=project,
            env={"PATH": os.defpath},
            capture_output=True,
            text=True,
            check=True,
        )
        yield done.stdout


def steps(project: Path) -> Iterator[str]:
    """Yield the scripts in the CI of a project, with a word for each expression of GitHub's."""
    for file in project.glob(WORKFLOWS):
        for job in yaml.safe_load(file.read_text())["jobs"].values():
            yield from (re.sub(r"\$\{\{.*?\}\}", "word", step["run"]) for step in job["steps"] if "run" in step)
    for file in project.glob(".gitlab-ci.yml"):
        for job in yaml.safe_load(file.read_text()).values():
            if isinstance(job, dict) and "script" in job:
                yield from (*job.get("before_script", []), *job["script"])


def shellcheck(folder: Path, scripts: set[str]) -> str:
    """Run shellcheck once over scripts. Returns its complaints."""
    files = [folder / f"{number}.sh" for number in range(len(scripts))]
    for file, script in zip(files, sorted(scripts), strict=True):
        file.write_text(script)
    # It takes a variable in the quotes of `sh -c` for a mistake.
    return Linter(("shellcheck", "--shell=sh", "--exclude=SC2016"), (), ("", ""), "").complaints(files)


def test_shellcheck_finds_nothing_in_any_recipe_or_step(renders: dict[str, Path], tmp_path: Path) -> None:
    made = {script for project in (*renders.values(), ROOT) for script in recipes(project)}
    run = {script for project in (*renders.values(), ROOT) for script in steps(project)}
    written = {path.read_text() for project in renders.values() for path in project.rglob("*.sh")}
    assert any("ruff check" in script for script in made)
    assert {"make lint", "make test-integration"} <= run

    assert shellcheck(tmp_path, made | run | written) == ""


def test_shellcheck_finds_nothing_in_the_scripts_of_this_repository() -> None:
    scripts = [path for path in own_files() if path.read_bytes().startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))]
    assert scripts
    assert Linter(("shellcheck",), (), ("", ""), "").complaints(scripts) == ""


def test_shellcheck_is_really_asked_about_recipes(renders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((renders["defaults"] / "Makefile").read_text() + "\nwrong:\n\t@cat $$file\n")

    assert "SC2086" in shellcheck(tmp_path, set(recipes(tmp_path)))
