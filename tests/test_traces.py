"""A feature that was not asked for leaves no trace: no file, setting, dependency, service or line of documentation."""

import re
from pathlib import Path

import pytest
import yaml

from tests.answers import RENDERS
from tests.template import texts

# Words that only the feature has a use for. What else they could be part of is spelt out: other words, and the
# documentation of whatever says in OpenAPI's own way that it is protected.
TRACES = {
    "example": r"""
        \b(app[./](projects|tasks)|(api/v1|versions|integration|unit)/(0001_)?(test_)?(projects|tasks)\w*
        |["'/](projects|tasks)\b|test_(projects|tasks)\w*|(project|task)_id|Project(s|Create|Update|Read|Factory|Service)
        |Task(s|Create|Update|Read|Factory|Service)\b|import[ ](Project|Task)\b)
        |polyfactory|factories
    """,
    "object_storage": r"""
        \bs3(?!\d)|_s3|bucket|versity|vgw_|rclone|obstore|boto|minio|presign
        |object[ _-]stor(e|age)|(?<!actions/)(?<!Do[ ]Not[ ])upload|app[./]files|v1/files|\bblob
    """,
    "auth": r"""
        (?<!--)\bauth(?!ors?\b|orit|_type)|api[_ -]?key|bearer|\bjwt|argon2|pwdlib|\btokens\b
        |sign-?in\b|log-?in\b
        |owner_(?!id)|(?<!statuses[ ]\+=[ ]\[)\b401\b|www-authenticate|permission_|app[./](users|keys)
    """,
    "api_key": r"api[_ -]?keys?\b|\bAPIKey|revoke-",
    "jwt": r"""
        \bjwt|argon2|pwdlib|refresh[_ -]?token|access[_ -]?token|\boauth|bearer|owner_(?!id)|app[./]users|users/me
    """,
    # Of authentication and object storage together.
    "credentials": r"(?<!persist-)(?<!no[ ])credential",
    "forms": r"multipart",
    "github": r"(?<!https://)github|dependabot|actions/",
    "gitlab": r"gitlab|renovate",
}
PATTERNS = {feature: re.compile(words, re.VERBOSE | re.IGNORECASE) for feature, words in TRACES.items()}
PATTERNS["example"] = re.compile(TRACES["example"], re.VERBOSE)
ANSWERS_FILE = ".copier-answers.yml"
# The answers, also those to the questions that were answered with no; what can be switched on; the words of lawyers.
UNSEEN = {ANSWERS_FILE, "LICENSE", "docs/template.md", "dev/template.py"}
UNSEEN |= {"app/core/documentation.py", "app/core/logging.py", "tests/harness/session_state.py"}
"""FastAPI's, URLs' and PostgreSQL's own words stand there, whatever the features."""


def features(project: Path) -> set[str]:
    """Return the features that a render was made with."""
    answers = yaml.safe_load((project / ANSWERS_FILE).read_text(encoding="utf-8"))
    features = {name for name in ("example", "object_storage") if answers[name]}
    features |= {"auth", answers["auth"]} if answers["auth"] != "none" else set()
    features |= {"credentials"} if features & {"auth", "object_storage"} else set()
    features |= {"forms"} if features & {"jwt", "object_storage"} else set()
    return features | ({answers["ci"]} - {"none"})


def traces(feature: str, project: Path) -> list[str]:
    """Return the lines, and the paths, of a render that have words of a feature."""
    pattern = PATTERNS[feature]
    found: list[str] = []
    for path, text in texts(project).items():
        if path not in UNSEEN:
            found += [path] if pattern.search(path) else []
            found += [f"{path}: {line.strip()}" for line in text.splitlines() if pattern.search(line)]
    return found


@pytest.mark.parametrize("name", RENDERS)
def test_a_feature_that_is_off_leaves_no_trace(name: str, renders: dict[str, Path]) -> None:
    off = set(TRACES) - features(renders[name])
    left = {feature: found for feature in sorted(off) if (found := traces(feature, renders[name]))}
    assert left == {}


@pytest.mark.parametrize("feature", [name for name in TRACES if name not in {"credentials", "forms"}])
def test_a_feature_that_is_on_has_its_words(feature: str, renders: dict[str, Path]) -> None:
    for project in renders.values():
        if feature in features(project):
            assert len(traces(feature, project)) >= 5


@pytest.mark.parametrize(
    ("feature", "line"),
    [
        ("credentials", "Whoever has the credentials may do so."),
        ("forms", '  "python-multipart>=0.0.20",'),
    ],
)
def test_words_that_not_every_render_with_the_feature_has_are_found(feature: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(f"{line}\nNothing.\n")
    assert traces(feature, tmp_path) == [f"page.md: {line.strip()}"]


def test_every_feature_is_on_in_one_render_and_off_in_another(renders: dict[str, Path]) -> None:
    on = [features(project) for project in renders.values()]
    assert set.union(*on) == set(TRACES)
    assert set.intersection(*on) == set()
