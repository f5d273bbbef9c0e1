"""The settings of the application under test."""

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from app.core.config import Settings


class HermeticSettings(Settings):
    """Settings that come from the tests alone, and not from the developer's environment or `.env`."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        *_others: PydanticBaseSettingsSource,
        **_more: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read what is given to the constructor, and nothing else."""
        return (init_settings,)
