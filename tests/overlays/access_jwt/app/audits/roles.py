"""Roles of the audits."""

ROLES = {"auditor": ("reader", "files:read")}
