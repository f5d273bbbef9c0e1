"""The settings of the application under test come from the tests alone, not from the developer's machine."""

import os

from app.core.config import Section, Settings
from app.core.discovery import sections


def forget_environment() -> None:
    """Remove every setting of the service from this process's environment, and have nothing read from `.env`."""
    for section in (Section, Settings, *sections()):
        section.model_config["env_file"] = None
        for field in section.model_fields:
            os.environ.pop(field.upper(), None)
    os.environ["ENVIRONMENT"] = "test"
