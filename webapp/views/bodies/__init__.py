"""The bodies of requests: read within bounds, and parsed into drafts."""
