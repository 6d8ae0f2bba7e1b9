"""How gunicorn serves the hub; it reads this file by itself, and again at every HUP."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # wherever gunicorn is started from

from webapp.server.conf import *  # noqa: F403 - its names are gunicorn's settings
