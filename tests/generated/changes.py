"""Changes to the files of a project, written as data: what people do to it, and how it is broken on purpose."""

import ast
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.answers import Answers


@dataclass(frozen=True)
class Change:
    """A change that is made in this order, and the answers that a project needs for it."""

    needs: Answers = field(default_factory=dict)
    delete: list[str] = field(default_factory=list)
    """Paths, also those that only later releases have."""
    replace: dict[str, list[str]] = field(default_factory=dict)
    """Path -> what is there, what comes in its place, and so on."""
    append: dict[str, str] = field(default_factory=dict)
    """Path -> what comes at its end."""
    write: dict[str, str] = field(default_factory=dict)
    """Path -> what is in the new file.

    {head} is the migration that is the last one so far, {client} a fixture whose requests may change something.
    """

    def make(self, project: Path, answers: Answers) -> None:
        """Change the files of a project."""
        for path in self.delete:
            shutil.rmtree(project / path) if (project / path).is_dir() else (project / path).unlink(missing_ok=True)
        for path, texts in self.replace.items():
            text = (project / path).read_text(encoding="utf-8")
            for before, after in zip(texts[::2], texts[1::2], strict=True):
                assert before in text, f"there is no {before!r} in {path}"
                text = text.replace(before, after, 1)
            (project / path).write_text(text, encoding="utf-8")
        for path, text in self.append.items():
            with (project / path).open("a", encoding="utf-8") as file:
                file.write(text)
        client = "client" if answers.get("auth", "none") == "none" else "authed_client"
        for path, text in self.write.items():
            last = heads(project)[0] if heads(project) else None
            head = '"' + last + '"' if last and "down_revision" in text else str(last)
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            text = text.replace("Revises: {head}", f"Revises: {last or ''}".strip()).replace("{head}", head)
            (project / path).write_text(text.replace("{client}", client), encoding="utf-8")


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
