"""What people do to their projects: the edits of edits.yml, and how they are made."""

import ast
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.answers import Answers
from tests.generated.service import Service
from tests.processes import run
from tests.template import git

EVERY_RELEASE = "0"


@dataclass(frozen=True)
class Edit:
    """One thing that people do, with the fields that edits.yml explains."""

    needs: Answers = field(default_factory=dict)
    since: str = EVERY_RELEASE
    uv: list[str] = field(default_factory=list)
    delete: list[str] = field(default_factory=list)
    replace: dict[str, list[str]] = field(default_factory=dict)
    append: dict[str, str] = field(default_factory=dict)
    write: dict[str, str] = field(default_factory=dict)

    def promised(self, release: str) -> bool:
        """Say whether a project of a release may be edited like this."""
        return version(release) >= version(self.since)

    def fits(self, release: str, answers: Answers) -> bool:
        """Say whether a project that a release rendered with these answers may be edited like this."""
        return self.promised(release) and self.needs.items() <= answers.items()


EDITS = {
    name: Edit(**details)
    for name, details in yaml.safe_load(Path(__file__).with_name("edits.yml").read_text(encoding="utf-8")).items()
}


def version(text: str) -> tuple[int, ...]:
    """Return a version's numbers, which can be compared."""
    return tuple(map(int, text.split(".")))


def revisions(project: Path) -> Iterator[tuple[str, set[str]]]:
    """Yield the revision of each migration, and those that it follows."""
    for path in sorted(project.glob("alembic/versions/*.py")):
        names = re.findall(r"(?m)^(revision|down_revision) = (.*)$", path.read_text(encoding="utf-8"))
        values = {name: ast.literal_eval(value) for name, value in names}
        before = values["down_revision"]
        yield values["revision"], {before} - {None} if not isinstance(before, tuple) else set(before)


def heads(project: Path) -> list[str]:
    """Return the revisions that no other one follows."""
    found = list(revisions(project))
    return sorted({revision for revision, _ in found} - {before for _, follows in found for before in follows})


def make_edit(service: Service, name: str, answers: Answers) -> None:
    """Do to a project what one of the edits says, and commit it."""
    edit, project = EDITS[name], service.project
    for command in edit.uv:
        done = run(["uv", *command.split()], project, service.environment(UV_NO_SYNC="false"), service.account)
        assert done.returncode == 0, done.stderr
    for path in edit.delete:
        shutil.rmtree(project / path) if (project / path).is_dir() else (project / path).unlink()
    for path, (before, after) in edit.replace.items():
        text = (project / path).read_text(encoding="utf-8")
        assert before in text, f"{name}: there is no {before!r} in {path}"
        (project / path).write_text(text.replace(before, after, 1), encoding="utf-8")
    for path, text in edit.append.items():
        with (project / path).open("a", encoding="utf-8") as file:
            file.write(text)
    client = "client" if answers.get("auth", "none") == "none" else "authed_client"
    for path, text in edit.write.items():
        last = heads(project)[0] if heads(project) else None
        head = '"' + last + '"' if last and "down_revision" in text else str(last)
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        text = text.replace("Revises: {head}", f"Revises: {last or ''}".strip()).replace("{head}", head)
        (project / path).write_text(text.replace("{client}", client), encoding="utf-8")
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--allow-empty", "--message", name)
