"""auditors.

Revision ID: aa11bb22cc33
Revises: 0004_file_owners
Create Date: 2026-12-01 09:00:00+00:00
"""

from alembic import op

revision = "aa11bb22cc33"
down_revision = "0004_file_owners"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Apply the change."""
    op.drop_constraint(op.f("ck_users_role"), "users", type_="check")
    op.create_check_constraint(op.f("ck_users_role"), "users", "role IN ('reader', 'editor', 'owner', 'auditor')")


def downgrade() -> None:
    """Undo the change."""
    op.drop_constraint(op.f("ck_users_role"), "users", type_="check")
    op.create_check_constraint(op.f("ck_users_role"), "users", "role IN ('reader', 'editor', 'owner')")
