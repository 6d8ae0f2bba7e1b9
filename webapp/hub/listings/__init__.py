"""Answers that end: events without waiting, topics, what is busy."""
