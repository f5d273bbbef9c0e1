"""The settings of the application under test come from the tests alone, not from the developer's machine."""

import os

from app.core.config import Section, Settings
from app.core.discovery import sections
from dev.example_settings import documented as documented
from dev.example_settings import example_settings, variables_of


def forget_environment() -> None:
    """Remove every setting of the service from this process's environment, and have nothing read from `.env`.

    Features get the values that `dev.example_settings` has for them.
    """
    examples = example_settings()
    for section in (Section, Settings, *sections()):
        section.model_config["env_file"] = None
        for variable in variables_of(section):
            os.environ.pop(variable, None)
    os.environ |= examples | {"ENVIRONMENT": "test"}
