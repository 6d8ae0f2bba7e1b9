"""What the page of the console asks for: `/console/…`."""

from . import connections, hub, state, topics

VIEWS = (state, topics, hub, connections)
"""The modules with its blueprints."""
