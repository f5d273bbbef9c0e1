"""Tests of the connection: limits, clients that are gone, the rules of HTTP/1.1, and workers without a supervisor."""
