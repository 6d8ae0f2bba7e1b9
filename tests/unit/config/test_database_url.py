"""The URL of a PostgreSQL, and the variable in which platforms hand it over."""

from __future__ import annotations

import pytest

from webapp.config.settings import Settings
from webapp.errors import Misconfigured

URL = "postgres://user:p%40ss@db.example:5432/app"


def test_the_name_of_the_platforms_variable_stands_for_its_text() -> None:
    env = {"TIDINGS_BROKER_URL": "$DATABASE_URL?sslmode=require", "DATABASE_URL": URL}
    settings = Settings.from_env(env)
    assert settings.broker_url == f"{URL}?sslmode=require"
    assert settings.broker_label == "postgres://db.example:5432/app"
    assert settings.history_bytes == 256 << 20


def test_the_variable_alone_changes_nothing() -> None:
    assert Settings.from_env({"DATABASE_URL": URL}).broker_url == Settings().broker_url


def test_a_variable_that_is_not_there_is_named() -> None:
    with pytest.raises(Misconfigured, match="there is no DATABASE_URL") as refused:
        Settings.from_env({"TIDINGS_BROKER_URL": "$DATABASE_URL"})
    assert "Add a PostgreSQL database to the app" in refused.value.remedy


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://db.example",
        "postgresql://user@[::1]:5433/app?sslmode=verify-full&sslrootcert=/etc/ca.pem",
        "postgresql:///app?host=/run/postgresql",
        "postgresql://one.example,two.example:5433/app?target_session_attrs=read-write",
        "postgresql://%2Frun%2Fpostgresql/app?listen=off",
    ],
)
def test_a_url_of_libpq_is_taken(url: str) -> None:
    assert Settings.from_env({"TIDINGS_BROKER_URL": url}).broker_url == url


@pytest.mark.parametrize(
    "url", ["postgresql:/app", "postgresql://user:p@ss@db/app", "postgresql://db/a b", "psql://db"]
)
def test_another_text_is_refused_with_what_to_write(url: str) -> None:
    with pytest.raises(Misconfigured, match="postgresql://user@host/database"):
        Settings.from_env({"TIDINGS_BROKER_URL": url})
