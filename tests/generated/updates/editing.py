"""What people do to their projects: the edits of edits.yml, and how they are made."""

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.answers import Answers
from tests.generated.changes import Change
from tests.generated.service import Service
from tests.processes import run
from tests.template import git

EVERY_RELEASE = "0"


@dataclass(frozen=True)
class Edit(Change):
    """One thing that people do, with the fields that edits.yml explains."""

    since: str = EVERY_RELEASE
    uv: list[str] = field(default_factory=list)
    idle: bool = False

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


def make_edit(service: Service, name: str, answers: Answers) -> None:
    """Do to a project what one of the edits says, and commit it."""
    edit, project = EDITS[name], service.project
    for command in edit.uv:
        done = run(["uv", *command.split()], project, service.environment(UV_NO_SYNC="false"), service.account)
        assert done.returncode == 0, done.stderr
    edit.make(project, answers)
    git(project, "add", "--all")
    assert edit.idle or git(project, "diff", "--cached", "--name-only"), f"{name} has changed nothing"
    git(project, "commit", "--quiet", "--allow-empty", "--message", name)
