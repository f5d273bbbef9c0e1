"""Tables that no request uses, so that the schema is as large as that of a real, if small, service."""

import os

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import mapped_column

from app.core.models import Entity

NAMES = [f"ballast_{number}" for number in range(int(os.environ["BENCH_BALLAST"]))]

for name in NAMES:
    columns = {
        "project_id": mapped_column(ForeignKey("projects.id", ondelete="CASCADE"), index=True),
        "name": mapped_column(String(100), unique=True),
    }
    type(name.title().replace("_", ""), (Entity,), {"__tablename__": name, **columns})
