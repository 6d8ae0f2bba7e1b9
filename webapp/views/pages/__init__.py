"""The pages, their scripts and styles."""
