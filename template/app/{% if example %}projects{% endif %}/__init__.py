"""Projects, a part of the example. Its routes declare what anybody may read."""
