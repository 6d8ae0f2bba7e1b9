"""The schema `tidings` in the database: made, or brought up to date, when a hub connects.

All of it is one transaction, and only one hub does it at a time. `VERSION` changes with the SQL
files: `upgrade_1.sql` then brings the tables from version 1 to 2, and so on, and all functions are
replaced. Hubs of the older version refuse to work from then on.
"""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

import psycopg

from ...errors import Misconfigured

if TYPE_CHECKING:
    from psycopg import Connection

VERSION = 2
_FUNCTIONS = (
    "removals.sql",
    "log.sql",
    "turn.sql",
    "reads.sql",
    "presence.sql",
    "outbox.sql",
    "triggers.sql",
)
_MIN_SERVER = 140000
_LOCK = 7305426183  # of `pg_advisory_xact_lock`; no other program should use this number
_HAS_SCHEMA = "SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = 'tidings'"
_HAS_TABLES = "SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'tidings'"
_SETTINGS = """
SELECT current_setting('server_encoding'), current_setting('default_transaction_isolation'),
  current_user::text, current_database()::text
"""
# A function whose result changes cannot be replaced. `publish` stays, with the rights of apps.
_DROP = """
DROP TRIGGER IF EXISTS number_commit ON tidings.outbox;
DO $$
DECLARE
  name text;
BEGIN
  FOR name IN SELECT oid::regprocedure::text FROM pg_catalog.pg_proc
    WHERE pronamespace = 'tidings'::regnamespace AND proname <> 'publish'
  LOOP EXECUTE 'DROP FUNCTION ' || name; END LOOP;
END $$
"""
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '4s'"  # others wait behind a lock that waits
# A user of the schema must not call the functions that are for the hub only.
_REVOKE = "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tidings FROM PUBLIC"


def prepare(connection: Connection) -> None:
    """Make the schema if it is missing, or bring it up to date.

    :param connection: in autocommit.
    :raises Misconfigured: it cannot be used.
    """
    if _version(connection) != VERSION:
        _check_server(connection)
        try:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                _migrate(connection)
        except psycopg.errors.InsufficientPrivilege as error:
            raise _may_not(connection) from error


def _version(connection: Connection) -> int:
    """Return the version of the schema; 0: there is none.

    :raises Misconfigured: it is of a newer hub.
    """
    try:
        row = connection.execute("SELECT number FROM tidings.version").fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return 0
    except psycopg.errors.InsufficientPrivilege as error:
        raise _may_not(connection) from error
    version = int(row[0]) if row else 0
    if version > VERSION:
        detail = "The schema tidings in the database was made by a newer version of Tidings."
        remedy = "Run that version, or name another database in TIDINGS_BROKER_URL."
        raise Misconfigured(detail, remedy)
    return version


def _migrate(connection: Connection) -> None:
    if not connection.execute(_HAS_SCHEMA).fetchone():
        connection.execute("CREATE SCHEMA tidings")
    if not connection.execute(_HAS_TABLES).fetchone():
        connection.execute(_read("tables.sql"))
    elif (version := _version(connection)) == VERSION:
        return  # another hub did it meanwhile
    else:
        connection.execute(_LOCK_TIMEOUT)
        for number in range(version, VERSION):
            connection.execute(_read(f"upgrade_{number}.sql"))
        connection.execute(_DROP)
    for name in _FUNCTIONS:
        connection.execute(_read(name))
    connection.execute(_REVOKE)


def _check_server(connection: Connection) -> None:
    if connection.info.server_version < _MIN_SERVER:
        detail = "The event log's server is older than PostgreSQL 14."
        raise Misconfigured(detail, "Use PostgreSQL 14 or newer.")
    [(encoding, isolation, user, database)] = connection.execute(_SETTINGS).fetchall()
    if encoding != "UTF8":
        detail = f"The event log's database has the encoding {encoding}, and not UTF8."
        raise Misconfigured(detail, "Create one with ENCODING 'UTF8' TEMPLATE template0.")
    if isolation != "read committed":
        detail = f"The event log's database begins transactions with the isolation {isolation}."
        statement = f'ALTER ROLE "{user}" IN DATABASE "{database}" SET'
        remedy = f"Run {statement} default_transaction_isolation = 'read committed'."
        raise Misconfigured(detail, remedy)


def _may_not(connection: Connection) -> Misconfigured:
    user = connection.info.user.replace('"', '""')
    detail = "The event log's database does not let its user make the schema tidings."
    statement = f'CREATE SCHEMA tidings AUTHORIZATION "{user}"'
    remedy = f"As an administrator of the database, run {statement}."
    return Misconfigured(detail, remedy)


def _read(name: str) -> bytes:
    return files(__package__).joinpath(name).read_bytes()
