"""What the pages of a project tell their readers to run, and what `make help` offers."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHELL = {"console", "sh", "shell", "bash"}
OTHER = {"python", "text"}
FENCE = re.compile(r"^( *)```(.*)\n((?:.*\n)*?)\1```$", re.MULTILINE)
# Commands in the middle of a text: those of make, which the tables of the pages are full of.
INLINE = re.compile(r"`(make [a-z][^`]*)`")


@dataclass(frozen=True)
class Instruction:
    """A command, and where it is said."""

    command: str
    place: str
    """The page, or `make help`; of a block also the line."""
    folder: str = ""
    """Where it is run, if the block went to another folder before."""

    @property
    def name(self) -> str:
        """What tells it from others."""
        return f"{self.folder}: {self.command}" if self.folder else self.command

    @property
    def in_block(self) -> bool:
        """Say whether it stands in a block of a page."""
        return ":" in self.place

    @property
    def target(self) -> str:
        """What make is asked for, if it is make that is run."""
        found = re.match(r"make ([a-z-]+)", self.command)
        return found[1] if found else ""


def languages(page: Path) -> set[str]:
    """Return what the blocks of a page say they are written in."""
    return {found[2] for found in FENCE.finditer(page.read_text(encoding="utf-8"))}


def in_blocks(page: Path, place: str) -> Iterator[Instruction]:
    """Yield the commands in the blocks of a page, without prompts and comments."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        if found[2] in SHELL:
            line, folder = text.count("\n", 0, found.start()) + 1, ""
            for command in found[3].splitlines():
                words = command.strip().removeprefix("$ ")
                if re.fullmatch(r"cd \S+", words):
                    folder = str(Path(folder, words.removeprefix("cd ")))
                elif words and not words.startswith("#"):
                    yield Instruction(words, f"{place}:{line}", folder)


def in_text(page: Path, place: str) -> Iterator[Instruction]:
    """Yield the commands of make in the text of a page."""
    for found in INLINE.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
        yield Instruction(found[1], place)


def in_help(project: Path) -> Iterator[Instruction]:
    """Yield the targets that `make help` lists."""
    listed = subprocess.run(["make", "help"], cwd=project, check=True, capture_output=True, text=True).stdout
    for target in re.findall(r"^  make ([a-z-]+) +\S", listed, re.MULTILINE):
        yield Instruction(f"make {target}", "make help")


def pages_of(project: Path) -> list[Path]:
    """Return the pages of a project, in the order in which they are read."""
    return [project / "README.md", *sorted(project.glob("docs/**/*.md"))]


def instructions_of(project: Path) -> list[Instruction]:
    """Return the instructions of a project, each once: of the blocks, then of the texts, then of `make help`.

    A target of `make help` that a page has asked for in some way is not asked for again.
    """
    found: dict[str, Instruction] = {}
    for read in (in_blocks, in_text):
        for page in pages_of(project):
            for instruction in read(page, str(page.relative_to(project))):
                found.setdefault(instruction.name, instruction)
    asked_for = {instruction.target for instruction in found.values() if not instruction.folder}
    return [*found.values(), *(one for one in in_help(project) if one.target not in asked_for)]
