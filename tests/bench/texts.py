"""Data of events as people publish them, of which no two are the same. Each has a time stamp."""

from __future__ import annotations

from random import Random

_WORDS = (
    *("amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "harbor", "island", "jasper"),
    *("kernel", "lagoon", "meadow", "nectar", "orchid", "pebble", "quartz", "river", "summit"),
)


def make(text: str, number: int, stamp: str) -> bytes:
    """Return the data of an event, which is the same in each run.

    :param text: `json`, `rows` or `html`.
    """
    return _TEXTS[text](Random(number), number, stamp).encode()


def _json(chance: Random, number: int, stamp: str) -> str:
    return (
        f'{{"at":"{stamp}","host":"web-{number % 40:02}","cpu":{chance.randrange(100)},"memory":'
        f'{chance.randrange(100)},"requests":{chance.randrange(10_000)},"region":"eu-central-1"}}'
    )


def _row(chance: Random, number: int, stamp: str) -> str:
    host = f"host-{number % 40}"
    return (
        f'<tr id="{host}" class="host host--ok" hx-swap-oob="true" data-at="{stamp}">'
        f'<td class="host__name">web-{number % 40:02}.example.net</td>'
        f'<td class="host__cpu">{chance.randrange(100)} %</td>'
        f'<td class="host__memory">{chance.randrange(100)} %</td>'
        '<td class="host__state"><span class="dot dot--ok"></span> up</td></tr>'
    )


def _html(chance: Random, number: int, stamp: str) -> str:
    words = " ".join(chance.choices(_WORDS, k=16))
    name = chance.choice(_WORDS)
    return (
        f'<article id="post-{number}" class="post" data-at="{stamp}"><header>'
        f'<a class="post__author" href="/people/{name}">{name}</a>'
        f'<time class="post__time">12:{number % 60:02}</time></header>'
        f'<p class="post__text">{words}</p></article>'
    )


_TEXTS = {"json": _json, "rows": _row, "html": _html}
