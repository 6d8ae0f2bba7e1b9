"""The event log of many machines: tables in a PostgreSQL database."""
