"""The settings of the application under test come from the tests alone, not from the developer's machine."""

import os
import re

from app.core.config import Section, Settings
from app.core.discovery import sections
from tests.harness.server import PROJECT

EXAMPLE = re.compile(r"^[# ]*(\w+)=(.*)$", re.MULTILINE)


def forget_environment() -> None:
    """Remove every setting of the service from this process's environment, and have nothing read from `.env`."""
    for section in (Section, Settings, *sections()):
        section.model_config["env_file"] = None
        for field in section.model_fields:
            os.environ.pop(field.upper(), None)
    os.environ["ENVIRONMENT"] = "test"


def documented(page: str = "docs/settings.md") -> dict[str, str]:
    """Return the settings that a page names, each with its example. A page that is not there names none."""
    path = PROJECT / page
    return dict(EXAMPLE.findall(path.read_text())) if path.exists() else {}
