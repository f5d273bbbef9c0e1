"""Values for the settings of features, without which tests, `make fuzz` and `make bench` could not start the service.

`tests/settings.env` sets any of them. A setting that has no default and is not there gets its example from
`.env.example`, or else its value in the environment.
"""

import os
import re
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values
from pydantic import ValidationError

from app.core.config import Section, explain
from app.core.discovery import sections

PROJECT = Path(__file__).parent.parent
EXAMPLE = re.compile(r"^[# ]*(\w+)=(.*)$", re.MULTILINE)


def documented(page: str = "docs/settings.md") -> dict[str, str]:
    """Return the settings that a page names, each with its example. A page that is not there names none."""
    path = PROJECT / page
    return dict(EXAMPLE.findall(path.read_text(encoding="utf-8"))) if path.exists() else {}


def variables_of(section: type[Section]) -> dict[str, bool]:
    """Return the environment variables that a section reads, and of each whether it has to be set."""
    prefix = section.model_config.get("env_prefix", "")
    return {
        (
            field.validation_alias if isinstance(field.validation_alias, str) else prefix + name
        ).upper(): field.is_required()
        for name, field in section.model_fields.items()
    }


def example_settings() -> dict[str, str]:
    """Return the values."""
    required = {
        variable for section in sections() for variable, is_required in variables_of(section).items() if is_required
    }
    examples = "\n".join(f"{name}={value}" for name, value in documented(".env.example").items() if name in required)
    values = {name: os.environ[name] for name in required & os.environ.keys()}
    for given in (dotenv_values(stream=StringIO(examples)), dotenv_values(PROJECT / "tests" / "settings.env")):
        values |= {name: value for name, value in given.items() if value}
    return values


def complaint() -> str | None:
    """Say which settings of features have no value, or one that is not allowed. Returns None if all is well."""
    lines = []
    for section in sections():
        try:
            section()
        except ValidationError as error:
            lines.append(explain(error))
    if not lines:
        return None
    return "\n".join(
        [*lines, "Write an example of each into .env.example, or a value for tests into tests/settings.env."]
    )
