"""Where the files go, and how large they may be."""

import re
from datetime import timedelta
from typing import Annotated, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from app.core.config import EXAMPLE_PASSWORDS, Seconds, Section, is_connectable

EXAMPLE_SECRETS = EXAMPLE_PASSWORDS | {"a-secret-key-of-its-own", "minioadmin"}
SHORTEST_SECRET = 16
PART_SIZE = 8 * 1024**2
"""Of the largest files. Smaller ones have smaller parts, because each upload keeps some of them in memory."""
SMALLEST_PART = 5 * 1024**2
"""The least that S3 takes for all parts but the last."""
ENDPOINT = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]+)?(/[\w./~%-]*)?", re.ASCII)
BUCKET = re.compile(r"[A-Za-z0-9][\w.-]{1,253}[A-Za-z0-9]", re.ASCII)
MOST_PARTS = 10_000
"""How many parts S3 lets an object have."""
REQUEST_TIMEOUT = timedelta(seconds=30)
"""Of one request to the storage, of which an upload needs one for each part."""
RETRIES = 2


class FileSettings(Section):
    """The object storage, any that speaks S3. Elsewhere than in production the service starts without it."""

    s3_endpoint_url: str = ""
    s3_public_endpoint_url: str = ""
    s3_bucket_name: str = ""
    s3_access_key_id: str = ""
    s3_secret_access_key: Annotated[str, Field(repr=False)] = ""
    s3_region: str = "us-east-1"
    max_upload_bytes: Annotated[int, Field(gt=0, le=PART_SIZE * MOST_PARTS)] = 100 * 1024**2
    upload_timeout: Seconds = 900
    upload_idle_timeout: Seconds = 30
    max_uploads: PositiveInt = 16

    @field_validator("s3_endpoint_url", "s3_public_endpoint_url")
    @classmethod
    def _require_http(cls, value: str) -> str:
        if value and not value.startswith(("https://", "http://")):
            raise ValueError("must be a URL that begins with https:// or http://")
        if value and not ENDPOINT.fullmatch(value):
            raise ValueError("must have no user, query, fragment or space in it")
        if value and not is_connectable(value):
            raise ValueError("has a host or a port that does not exist")
        return value.rstrip("/")

    @field_validator("s3_bucket_name")
    @classmethod
    def _require_bucket(cls, value: str) -> str:
        if value and not BUCKET.fullmatch(value):
            raise ValueError("must have 3 to 255 letters, digits, dots, hyphens and underscores, as S3 allows them")
        return value

    @field_validator("s3_access_key_id", "s3_secret_access_key", "s3_region")
    @classmethod
    def _refuse_spaces(cls, value: str) -> str:
        if not value.isascii() or not value.isprintable() or " " in value:
            raise ValueError("has a space, a line break or a letter that is not ASCII, which no signature can hold")
        return value

    @model_validator(mode="after")
    def _require_all_or_nothing(self) -> Self:
        needed = ("s3_endpoint_url", "s3_bucket_name", "s3_access_key_id", "s3_secret_access_key")
        missing = [name.upper() for name in needed if not getattr(self, name)]
        if missing and (self.environment == "production" or len(missing) < len(needed)):
            raise ValueError(f"{', '.join(missing)} must be set, for the files to have a place")
        return self

    @model_validator(mode="after")
    def _refuse_weak_secret(self) -> Self:
        secret = self.s3_secret_access_key
        if self.environment == "production" and (secret in EXAMPLE_SECRETS or len(secret) < SHORTEST_SECRET):
            raise ValueError(
                f"S3_SECRET_ACCESS_KEY is an example or has under {SHORTEST_SECRET} characters: choose another"
            )
        return self

    @property
    def part_size(self) -> int:
        """The size of the parts in which a file goes to the storage: as small as `max_upload_bytes` allows."""
        return max(SMALLEST_PART, -(-self.max_upload_bytes // MOST_PARTS))

    @property
    def given_up_after(self) -> timedelta:
        """The age at which an upload that is not complete never will be, with time for the storage's own retries."""
        return timedelta(seconds=2 * self.upload_timeout) + (RETRIES + 1) * REQUEST_TIMEOUT
