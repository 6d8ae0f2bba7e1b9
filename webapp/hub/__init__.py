"""One process's view of the event log, and the subscribers that read it."""
