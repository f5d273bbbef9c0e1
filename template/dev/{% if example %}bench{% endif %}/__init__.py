"""What the service costs, compared with what it is made of: `make bench`. Never part of the running service."""
