"""The answers that are tried, and those that are refused."""

from itertools import product
from typing import Any

from tests.pairs import choices, pairwise
from tests.template import QUESTIONS

Answers = dict[str, Any]

AWKWARD = """It's "naïve" & <b>: C:\\temp\\ # {{ 7*7 }} {% raw %} ${x} $(x) 🚀"""

TEXTS: dict[str, Answers] = {
    "defaults": {},
    "no-example": {"example": False},
    "three-letters": {"project_name": "Abc"},
    "sixty-letters": {"project_name": "Sixty Letters Are the Most That a Service Name May Have, Yes".ljust(60, "!")},
    "sixty-letters-no-example": {"project_name": "W" * 60, "project_slug": "w" * 40, "example": False},
    "awkward-texts": {
        "project_name": """O'Neill's "Größe" & C:\\new # {{ 7*7 }}: 🚀""",
        "project_description": AWKWARD,
        "author_name": AWKWARD,
        "author_email": "o.neill+test&more@sub.example.com",
    },
    "awkward-texts-no-example": {
        "project_name": "#: '\\",
        "project_description": "- 'single' | > @ ` % * ! , [x] {y} \\n \\\" \"",
        "author_name": "'\"\\",
        "example": False,
    },
    "longest-texts": {"project_description": "d" * 200, "author_name": "a" * 100, "project_slug": "s" * 40},
    "mit": {"license": "MIT", "author_name": AWKWARD},
    "apache": {"license": "Apache-2.0", "author_name": AWKWARD, "python_version": "3.11", "postgres_version": "16"},
    "bsd": {"license": "BSD-3-Clause", "author_name": AWKWARD, "python_version": "3.12", "postgres_version": "17"},
    "proprietary": {"license": "Proprietary", "author_name": AWKWARD, "python_version": "3.13", "example": False},
}

# Every combination of features that is not among those above, and with them in turn every CI, Python and PostgreSQL.
FEATURES: dict[str, Answers] = {
    f"{auth}{'-storage' * storage}{'-example' * example}": {
        "auth": auth,
        "object_storage": storage,
        "example": example,
        "ci": ("gitlab", "none", "github")[number % 3],
        "python_version": ("3.14", "3.13", "3.12", "3.11")[number % 4],
        "postgres_version": ("18", "17", "16")[number // 4],
    }
    for number, (auth, storage, example) in enumerate(product(("none", "api_key", "jwt"), (False, True), (False, True)))
    if auth != "none" or storage
}

# Sets of answers in which every two answers meet.
PAIRS: dict[str, Answers] = {
    f"pair-{number:02}": row for number, row in enumerate(pairwise(choices(QUESTIONS)), start=1)
}

RENDERS: dict[str, Answers] = TEXTS | FEATURES | PAIRS

# What is in a project that leaves nothing out.
EVERYTHING: Answers = {"example": True, "auth": "jwt", "object_storage": True, "ci": "github"}

# An answer to each question that differs from the default one.
ANOTHER_ANSWER: Answers = {
    "project_name": "Another Name",
    "project_slug": "another-slug",
    "project_description": "Another description.",
    "author_name": "Another Author",
    "author_email": "another@example.com",
    "license": "BSD-3-Clause",
    "python_version": "3.12",
    "postgres_version": "17",
    "example": False,
    "auth": "jwt",
    "object_storage": True,
    "ci": "gitlab",
}

# Question, answer, and words of the sentence that refuses it.
REFUSED: list[tuple[str, str, str]] = [
    ("project_name", "", "must not be empty"),
    ("project_name", "   ", "must not be empty"),
    ("project_name", " Leading", "must not begin or end with a space"),
    ("project_name", "Trailing ", "must not begin or end with a space"),
    ("project_name", "x" * 61, "at most 60 characters; this one has 61"),
    ("project_name", "Two\nlines", "one line of printable characters"),
    ("project_name", "A\u2028separator", "one line of printable characters"),
    ("project_slug", "", "lower-case letters"),
    ("project_slug", "My Service", "lower-case letters"),
    ("project_slug", "9lives", "lower-case letters"),
    ("project_slug", "-service", "lower-case letters"),
    ("project_slug", "service-", "lower-case letters"),
    ("project_slug", "my--service", "lower-case letters"),
    ("project_slug", "my_service", "lower-case letters"),
    ("project_slug", "größe", "lower-case letters"),
    ("project_slug", "service\n", "lower-case letters"),
    ("project_slug", "s" * 41, "At most 40 characters; this one has 41"),
    ("project_description", "", "must not be empty"),
    ("project_description", "d" * 201, "At most 200 characters; this one has 201"),
    ("project_description", "Two\nlines", "one line of printable characters"),
    ("project_description", "A\ttab", "one line of printable characters"),
    ("author_name", "", "must not be empty"),
    ("author_name", "a" * 101, "At most 100 characters; this one has 101"),
    ("author_name", "A\x7fdelete", "one line of printable characters"),
    ("author_email", "nobody", "not an e-mail address"),
    ("author_email", "nobody@localhost", "not an e-mail address"),
    ("author_email", "two words@example.com", "not an e-mail address"),
    ("author_email", 'quo"te@example.com', "not an e-mail address"),
    ("author_email", "name@example.com\n", "not an e-mail address"),
    ("author_email", f"{'n' * 250}@example.com", "At most 254 characters"),
    ("license", "GPL-3.0", "Invalid choice"),
    ("python_version", "3.10", "Invalid choice"),
    ("postgres_version", "15", "Invalid choice"),
    ("auth", "basic", "Invalid choice"),
    ("ci", "jenkins", "Invalid choice"),
]
