"""The event log of one machine: an SQLite file that any number of processes share."""
