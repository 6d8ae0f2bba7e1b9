"""Reads of past events: where a subscriber starts, what it missed, snapshots, ends of topics."""
