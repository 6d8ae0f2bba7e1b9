"""The HTTP interface, a blueprint a module."""
