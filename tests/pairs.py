"""Sets of answers that have every answer to each question together with every answer to every other one."""

from typing import Any

from covertable import make

from tools.checkout import Questions, values

# What somebody may answer where any text will do, from the shortest to what looks like syntax to those who read it.
AWKWARD_TEXTS: dict[str, list[str]] = {
    "project_name": ["A", "W" * 60, """O'Neill's "Größe" & C:\\new # {{ 7*7 }}: 🚀"""],
    "project_slug": ["a", "s" * 40, "x-9-y"],
    "project_description": ["-", "d" * 200, """- It's "naïve" | & <b>: C:\\temp\\ # {% raw %} ${x} $(x) 🚀"""],
    "author_name": ["A", "a" * 100, """'\\"{{ 7*7 }}"""],
    "author_email": ["", "o.neill+test&more@sub.example.com"],
}


def choices(questions: Questions) -> dict[str, list[Any]]:
    """Return the answers to try for each question: all there are, or the awkward ones where any text will do."""
    return {name: values(question) or AWKWARD_TEXTS[name] for name, question in questions.items()}


def pairwise(answers: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Return as few sets of answers as can be found in which every two answers meet, the same ones each time."""
    return [dict(row) for row in make(answers)]
