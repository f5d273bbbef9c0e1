"""A project that an old release rendered, its update to the template as it is now, and what may not come of that."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import copier
import yaml

from tests.answers import Answers
from tests.generated.changes import heads
from tests.generated.service import Service, Toolbox
from tests.generated.updates.editing import EDITS, make_edit
from tests.ownership import kind_of
from tests.processes import Account, run
from tests.template import contents, git, render

Files = dict[str, bytes]
ANSWERS_FILE = ".copier-answers.yml"
FreshRender = Callable[[Answers], Path]


def files_of(project: Path) -> Files:
    """Return the content of every file that git would keep, by its path."""
    names = git(project, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
    return {name: (project / name).read_bytes() for name in sorted(set(names)) if name and (project / name).is_file()}


def lines_of(content: bytes) -> Counter[str]:
    """Count the lines of a file that say something."""
    return Counter(line for line in content.decode().splitlines() if line.strip())


def commit(project: Path, message: str) -> None:
    """Commit everything that is in a project."""
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--allow-empty", "--message", message)


def answers_of(project: Path) -> Answers:
    """Return what a project's answers file says, without where the template is."""
    answers = yaml.safe_load((project / ANSWERS_FILE).read_text(encoding="utf-8"))
    return {question: answer for question, answer in answers.items() if not question.startswith("_")}


@dataclass
class Project:
    """A project in a git repository, with the files it had when it was rendered."""

    service: Service
    rendered: Files
    edited: Files

    @classmethod
    def begin(cls, template: Path, release: str, folder: Path, toolbox: Toolbox, answers: Answers) -> "Project":
        """Render a project from a release, and commit it."""
        path = render(template, folder, f"v{release}", **answers)
        git(path, "init", "--quiet")
        commit(path, f"Begin with {release}")
        files = files_of(path)
        return cls(Service(path, toolbox, Account()), files, files)

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.service.project

    def edit(self, *names: str) -> None:
        """Do to it what the named edits say."""
        for name in names:
            make_edit(self.service, name, answers_of(self.path))
        self.edited = files_of(self.path)

    def update(self, **answers: Any) -> None:
        """Update it to the newest version of the template, as `copier update --defaults` does."""
        copier.run_update(
            self.path,
            data=answers,
            defaults=True,
            overwrite=True,
            quiet=True,
            unsafe=False,
            settings=copier.Settings(),
        )

    def line_up_migrations(self) -> None:
        """Put migrations that have arrived behind the project's own, as `make template-update` does."""
        code = "from dev.template import line_up_migrations; line_up_migrations()"
        done = run([self.service.toolbox.python, "-c", code], self.path, self.service.environment())
        assert done.returncode == 0, done.stderr

    def settle(self, fresh_render: FreshRender) -> None:
        """Commit what an update has brought: from now on it is what the template has made."""
        commit(self.path, "Update")
        fresh, now = contents(fresh_render(answers_of(self.path))), files_of(self.path)
        made = {name: content for name, content in fresh.items() if kind_of(name) == "managed"}
        kept = {name: self.rendered[name] for name in self.rendered.keys() - made.keys() if name in {*fresh, *now}}
        came = {name: now[name] for name in fresh.keys() - made.keys() - kept.keys() if name in now}
        self.rendered, self.edited = made | kept | came, now

    def assert_nothing_lost(self, fresh_render: FreshRender) -> None:
        """Fail with a sentence on each thing that is wrong after an update."""
        now = files_of(self.path)
        fresh = contents(fresh_render(answers_of(self.path)))
        wrong = [
            *self._conflicts(now),
            *self._lost_edits(now, fresh),
            *self._unlike_a_fresh_render(now, fresh),
            *([f"the migrations have the heads {heads(self.path)}"] if len(heads(self.path)) > 1 else []),
        ]
        assert not wrong, "\n".join(wrong)

    def _conflicts(self, now: Files) -> Iterator[str]:
        for name in git(self.path, "diff", "--name-only", "--diff-filter=U").split():
            yield f"{name} is not merged"
        for name in git(self.path, "ls-files", "--others", "--", "*.rej", "*.orig").split():
            yield f"{name} was left behind"
        for name, content in now.items():
            if any(line.startswith((b"<<<<<<<", b">>>>>>>", b"|||||||")) for line in content.splitlines()):
                yield f"{name} has conflict markers ({self._edits_of(name)})"

    def _edits_of(self, name: str) -> str:
        """Name the edits that had to do with a file."""
        done = git(self.path, "log", "--format=%s", "--", name).splitlines()
        return "after: " + (", ".join(edit for edit in done if edit in EDITS) or "no edit")

    def _lost_edits(self, now: Files, fresh: Files) -> Iterator[str]:
        for name in sorted({*self.rendered, *self.edited}):
            before, edited = self.rendered.get(name), self.edited.get(name)
            if before == edited or name == "uv.lock":
                continue
            if edited is None:
                if name in now:
                    yield f"{name} was deleted and came back ({self._edits_of(name)})"
                continue
            if name not in now:
                yield f"{name} was edited and is gone ({self._edits_of(name)})"
                continue
            old, own, merged = lines_of(before or b""), lines_of(edited), lines_of(now[name])
            new = lines_of(fresh.get(name, b""))
            for line in (own - old) - merged:
                yield f"{name} lost the line {line!r} ({self._edits_of(name)})"
            for line in old - own:
                if merged[line] > own[line] and new[line] <= old[line]:
                    yield f"{name} has the line {line!r} again ({self._edits_of(name)})"

    def _unlike_a_fresh_render(self, now: Files, fresh: Files) -> Iterator[str]:
        for name in sorted({*now, *fresh}):
            touched = self.rendered.get(name) != self.edited.get(name)
            if touched or name == "uv.lock":
                continue
            kind = kind_of(name)
            if kind == "managed" and now.get(name) != fresh.get(name):
                happened = "is missing" if name not in now else "is left" if name not in fresh else "differs"
                yield f"{name} {happened}, compared with a fresh render, though nobody touched it"
            if kind != "managed" and name in self.edited and name in fresh and now.get(name) != self.edited[name]:
                yield f"{name} is the project's own and was changed"
            if kind == "migration" and name in self.edited and name not in now:
                yield f"{name} is a migration and is gone"
