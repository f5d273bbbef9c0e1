"""What stands behind the fixtures.

To be read in this order:

1. `server`: where the PostgreSQL comes from.
2. `databases`: how databases are made from a template.
3. `sandbox`: how a test is isolated without a database of its own.
4. `isolation`: which database a test works on, and what it left behind.

The rest is small: `client` and `live` talk HTTP, `queries` counts, `settings` keeps the developer's environment out,
`run` and `plugin` are the part in pytest.
"""
