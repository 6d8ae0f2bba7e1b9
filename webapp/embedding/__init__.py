"""A hub inside another Flask app: the extension, and how it fits the server of the app."""
