"""The answers that are tried, and those that are refused."""

from typing import Any

from tests.pairs import choices, pairwise
from tests.template import QUESTIONS
from tools.checkout import values

Answers = dict[str, Any]

FEATURE_QUESTIONS = ("auth", "object_storage", "example")
BOOLEANS = [name for name, question in QUESTIONS.items() if question["type"] == "bool"]

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
    # What means something to Jinja, YAML and TOML, the shell, a file system or Python is only text here.
    "jinja": {"project_name": "{{ 7*7 }}", "project_description": "{% raw %}{# x #}", "author_name": "{%- endif %}"},
    "yaml": {"project_name": "*a", "project_description": "- x: &a !!python/object:x [", "author_name": "? | > %"},
    "shell": {"project_name": "$(id) `id`", "project_description": "; rm -rf $HOME && ${x} |", "author_name": "\\"},
    "paths": {"project_name": "../../x", "project_description": "~/x", "author_name": "/etc", "project_slug": "con"},
    "words": {"project_name": "null", "project_description": "true", "author_name": "no", "project_slug": "class"},
    "numbers": {"project_name": "007", "project_description": "1e3", "author_name": "0x1F", "project_slug": "null"},
    "spaces": {"project_description": "  Spaces about. ", "author_name": " A\u00a0B ", "project_slug": "postgres"},
    "scripts": {
        "project_name": "Cafe\u0301 \U0001f469\u200d\U0001f4bb \u05e9\u05dc\u05d5\u05dd",
        "project_description": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u2764\ufe0f",
        "author_name": "\u7530\u4e2d\u3000\u592a\u90ce",
        "project_slug": "test",
    },
    "mit": {"license": "MIT", "author_name": AWKWARD},
    "apache": {"license": "Apache-2.0", "author_name": AWKWARD, "python_version": "3.11", "postgres_version": "16"},
    "bsd": {"license": "BSD-3-Clause", "author_name": AWKWARD, "python_version": "3.12", "postgres_version": "17"},
    "proprietary": {"license": "Proprietary", "author_name": AWKWARD, "python_version": "3.13", "example": False},
}

# Sets of features in which every two answers meet, and with them in turn every CI, Python and PostgreSQL. Services with
# these are run in full, so there must not be many.
FEATURES: dict[str, Answers] = {
    "-".join(name if answer is True else str(answer) for name, answer in row.items() if answer is not False): row
    | {
        "ci": ("gitlab", "none", "github")[number % 3],
        "python_version": ("3.14", "3.13", "3.12", "3.11")[number % 4],
        "postgres_version": ("18", "17", "16")[number % 3],
    }
    for number, row in enumerate(pairwise({name: values(QUESTIONS[name]) for name in FEATURE_QUESTIONS}))
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

# What ends a line, what cannot be seen, and what turns round the text beside it.
UNPRINTABLE = [
    *("\n", "\r", "\t", "\v", "\0", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"),
    *("\u00ad", "\u061c", "\u200b", "\u200e", "\u200f", "\u202a", "\u202e", "\u2060", "\u2066", "\u206f"),
    *("\ufeff", "\ufff9", "\uffff", "\ud800", "\udc80", "\udfff", "\U000e0001", "\U000e0041", "\U000e007f"),
]
SLUGS = [
    *("", " ", "My Service", "Service", "9lives", "-service", "service-", "my--service", "my_service", "service\n"),
    *("größe", "e\u0301", "\u0455ervice", "\uff53ervice", "a\u0663", "a\u200bb", "\u202ea", "\U0001f680"),
    *("a\0", "a\ud800"),
    *("'a'", '"a"', "a\nb", "a\u2028b", "{{ 7*7 }}", "{% raw %}", "a: b", "- x", "*a", "&a", "!!python/object", "#a"),
    *("$(id)", "`id`", "a; rm", "a|b", "$HOME", "../x", "/etc", "a/b", "a\\b", "~", ".", "..", "a.b", "a%2fb", "@a"),
]
ADDRESSES = [
    *(" ", "nobody", "nobody@localhost", "@example.com", "a@b@example.com", "two words@example.com", "a@example.com "),
    *('quo"te@example.com', "o'x@example.com", "<a@example.com>", "a@example.com,b@example.com", "a@x..com", "a@-"),
    *("a@example.com\n", "a\nb@example.com", "a\0@example.com", "größe@example.com", "a@\u0435xample.com"),
    *("a\u202e@example.com", "a\u200b@example.com", "{{7*7}}@example.com", "${x}@example.com", "$(id)@example.com"),
    *("`id`@example.com", "a;rm@example.com", "a: b@example.com", "a@../x.com", "a\\@example.com", "a@example.com#"),
]
WORDS = ["", " ", "\0", "maybe", "tru", "2", "-1", "true false", "true\n", "{{ 7*7 }}", "*a", "$(id)", "\u202etrue"]
CHOICES = ["", " ", "nothing", "None", "{{ 7*7 }}", "*a", "$(id)", "../x", "a\nb", "'", "\u202e", "\0"]

# Question, answer, and words of the sentence that refuses it.
REFUSED: list[tuple[str, Any, str]] = [
    *((question, text, "must not be empty") for question in ("project_name",) for text in ("", "   ", "\u00a0", "\n")),
    ("project_name", " Leading", "must not begin or end with a space"),
    ("project_name", "Trailing ", "must not begin or end with a space"),
    ("project_name", "Trailing\n", "must not begin or end with a space"),
    ("project_name", "x" * 61, "at most 60 characters; this one has 61"),
    *(("project_name", f"A{character}b", "one line of printable characters") for character in UNPRINTABLE),
    *(("project_slug", slug, "Use lower-case letters, digits and single hyphens") for slug in SLUGS),
    ("project_slug", "s" * 41, "At most 40 characters; this one has 41"),
    ("project_slug", "fastapi", "needs another name: fastapi-service"),
    *(("project_description", text, "must not be empty") for text in ("", "   ", "\u3000", "\n")),
    ("project_description", "d" * 201, "At most 200 characters; this one has 201"),
    ("project_description", "A line\n", "one line of printable characters"),
    *(("project_description", f"A{character}b", "one line of printable characters") for character in UNPRINTABLE),
    *(("author_name", text, "must not be empty") for text in ("", "   ", "\u2003", "\n")),
    ("author_name", "a" * 101, "At most 100 characters; this one has 101"),
    ("author_name", "A line\n", "one line of printable characters"),
    *(("author_name", f"A{character}b", "one line of printable characters") for character in UNPRINTABLE),
    *(("author_email", address, "not an e-mail address: write name@example.com") for address in ADDRESSES),
    ("author_email", f"{'n' * 250}@example.com", "At most 254 characters"),
    *((question, word, "Answer true or false.") for question in BOOLEANS for word in WORDS),
    ("license", "GPL-3.0", "is not in ['MIT', 'Apache-2.0', 'BSD-3-Clause', 'Proprietary']"),
    ("license", "mit", "is not in ['MIT', 'Apache-2.0', 'BSD-3-Clause', 'Proprietary']"),
    ("python_version", "3.10", "is not in ['3.14', '3.13', '3.12', '3.11']"),
    ("postgres_version", "15", "is not in ['18', '17', '16']"),
    ("auth", "basic", "is not in ['none', 'api_key', 'jwt']"),
    ("ci", "jenkins", "is not in ['github', 'gitlab', 'none']"),
    *((name, choice, "Invalid choice") for name, one in QUESTIONS.items() if "choices" in one for choice in CHOICES),
    # What is not of the type that was asked for, as a program or a file of answers may give it.
    *((name, None, f'Invalid answer "None" of type "<class \'NoneType\'>" to question "{name}"') for name in QUESTIONS),
    *((name, ["a"], "Could not convert ['a'] to string") for name, one in QUESTIONS.items() if one["type"] == "str"),
    *((name, {}, "Could not convert {} to string") for name, one in QUESTIONS.items() if one["type"] == "str"),
    *((name, value, "Answer true or false.") for name in BOOLEANS for value in (2, 0.5, ["a"])),
    ("project_slug", 7, "Use lower-case letters, digits and single hyphens"),
    ("author_email", 7, "not an e-mail address"),
    ("python_version", 3.1, "is not in ['3.14', '3.13', '3.12', '3.11']"),  # What YAML makes of 3.10.
    ("postgres_version", 18.0, "is not in ['18', '17', '16']"),
]
