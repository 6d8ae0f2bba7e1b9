"""Turns tokens into grants: what a client may publish and subscribe to."""
