"""The requests of the console: `/console/…`."""

from . import connections, hub, state, topics

VIEWS = (state, topics, hub, connections)
"""The modules with its blueprints."""
