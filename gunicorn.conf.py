"""How gunicorn serves the hub: gunicorn reads this file when it starts, and again at every HUP."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # whatever folder gunicorn is started from

from webapp.server.conf import *  # noqa: F403 - its names are gunicorn's settings
