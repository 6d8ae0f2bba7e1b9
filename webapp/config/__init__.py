"""Settings from the environment, and what must hold before the hub starts."""
