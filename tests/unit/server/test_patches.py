from __future__ import annotations

from importlib import metadata
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from gunicorn.http import wsgi
from gunicorn.http.errors import InvalidHeader

from webapp.server.patches import (
    _CHECKED_NAMES,
    _process_header,
    _process_headers,
    one_search_for_plugins,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def response() -> Any:
    return wsgi.Response(SimpleNamespace(), None, None)  # type: ignore[arg-type] # it asks them nothing


def test_headers_are_taken_in_as_gunicorn_does() -> None:
    known = [(name, " a value\t") for name in sorted(_CHECKED_NAMES)]
    others = [("Content-Length", "3"), ("Connection", "close"), ("x-own", ""), ("vary", "Accept")]
    ours, gunicorns = response(), response()
    _process_headers(ours, [*known, *others])
    _process_header(gunicorns, [*known, *others])
    assert vars(ours) == vars(gunicorns)


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: b", "a\n", "\0", "\u20ac"])
def test_a_value_that_would_break_out_of_its_header_is_refused(value: str) -> None:
    for name in sorted(_CHECKED_NAMES):
        with pytest.raises(InvalidHeader, match=name):
            _process_headers(response(), [(name, value)])


def test_gevent_finds_its_plugins_by_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    searched = list[str]()
    installed = metadata.distributions

    def search() -> Iterator[metadata.Distribution]:
        searched.append("all packages")
        yield from installed()

    monkeypatch.setattr(metadata, "distributions", search)
    group = "gevent.plugins.monkey.will_patch_all"
    expected = list(metadata.entry_points(group=group))
    assert expected
    searched.clear()
    with one_search_for_plugins():
        for _ in range(3):
            assert list(metadata.entry_points(group=group)) == expected
            assert not list(metadata.entry_points(group=f"{group}.of_nobody"))
    assert searched == ["all packages"]
    metadata.entry_points(group=group)
    assert len(searched) == 2
