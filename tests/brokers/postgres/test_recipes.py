"""The recipes of the page on transactions, as an app runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.doc_pages import blocks
from support.events import contents, next_events

if TYPE_CHECKING:
    from support.broker_process import Connect
    from support.postgres_server import PostgresServer

_DJANGO = """
import os, psycopg.conninfo
from django.conf import settings
given = psycopg.conninfo.conninfo_to_dict(os.environ["DATABASE_URL"])
settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.postgresql",
  "NAME": given["dbname"], "USER": given["user"], "HOST": given["host"], "PORT": given["port"]}})
"""


def run(code: str, url: str) -> None:
    """Run a program of an app."""
    env = {**os.environ, "DATABASE_URL": url, "PYTHONWARNINGS": ""}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


def test_the_recipes_publish_what_they_say(
    postgres: PostgresServer, url: str, connect: Connect
) -> None:
    pytest.importorskip("sqlalchemy")
    log = connect(url)
    follower = log.follow(log.bounds().head)
    postgres.ask("CREATE ROLE app LOGIN")
    postgres.ask(*blocks("guides/transactions.md", "Let your app publish", "sql"), url=url)
    postgres.ask("CREATE TABLE orders (item int); GRANT ALL ON orders TO app", url=url)
    ours = url.replace("hub@", "app@")
    [psycopg], [sqlalchemy] = (
        blocks("guides/transactions.md", "psycopg", "python"),
        blocks("guides/transactions.md", "SQLAlchemy", "python"),
    )
    [django] = blocks("guides/transactions.md", "Django", "python")
    [trigger] = blocks("guides/transactions.md", "A trigger on a table", "sql")
    [in_one] = blocks("guides/transactions.md", "In the statement that writes", "sql")
    [calls] = blocks("guides/transactions.md", "Call the function", "sql")
    run(psycopg, ours)
    run(sqlalchemy, ours)
    run(f"{_DJANGO}{django}\norder(9)", ours)
    postgres.ask(calls, url=ours)
    postgres.ask(trigger, url=url)
    postgres.ask("INSERT INTO orders VALUES (10); UPDATE orders SET item = 11", url=ours)
    found = next_events(follower, 10)
    postgres.ask(in_one, url=ours)
    [placed, by_trigger] = next_events(follower, 2)
    assert contents(found)[:6] == [
        *(f'{{"item": {n}}}' for n in (7, 8, 9, 7)),
        "paid",
        '{"item": 10}',
    ]
    assert (found[4].id, found[4].draft.private) == ("order-7-paid", True)
    assert [it.draft.type for it in found[5:]] == ["insert", *["update"] * 4]
    assert by_trigger.draft.type == "insert"
    assert (placed.draft.topics, placed.draft.data) == (("/placed",), '{"item": 12}')
    postgres.ask("DROP TABLE orders; DROP FUNCTION publish_order", url=url)
    postgres.ask("DROP OWNED BY app; DROP ROLE app", url=url)
