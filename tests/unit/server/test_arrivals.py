"""Of thousands of requests that arrive at once, which goes on first."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from support.waiting import PATIENCE
from webapp.scheduling import Turns
from webapp.server.arrivals import Arrivals


class Peer:
    """A connection from an address."""

    def __init__(self, address: str | None) -> None:
        self.peer_address: Any = address and (address, 7)


class Passing:
    """Lets connections arrive, and notes which went on in which turn of the loop."""

    def __init__(self) -> None:
        self.arrivals = Arrivals(Turns(0))
        self.passed: list[str] = []
        self.turns: list[int] = []

    def arrive(self, *addresses: str | None) -> list[gevent.Greenlet[..., None]]:
        return [gevent.spawn(self._pass, n, it) for n, it in enumerate(addresses)]

    def _pass(self, number: int, address: str | None) -> None:
        self.arrivals.wait(Peer(address))
        self.passed.append(f"{address} {number}")
        self.turns.append(gevent.get_hub().loop.iteration)


def test_some_go_on_in_each_turn_of_the_loop() -> None:
    passing = Passing()
    gevent.joinall(passing.arrive(*["192.0.2.1"] * 20), timeout=PATIENCE)
    assert len(set(passing.turns)) == len(passing.turns) == 20
    passing.arrivals = Arrivals(Turns(PATIENCE))
    gevent.joinall(passing.arrive(*["192.0.2.1"] * 20), timeout=PATIENCE)
    assert len(set(passing.turns[20:])) == 1


def test_addresses_take_turns_and_the_newest_of_each_comes_first() -> None:
    passing = Passing()
    gevent.joinall(passing.arrive(*"aaaaab", None), timeout=PATIENCE)
    # Two had begun before there was a line.
    assert passing.passed[:2] == ["a 0", "a 1"]
    assert passing.passed[2:] == ["a 4", "b 5", "None 6", "a 3", "a 2"]


@pytest.mark.parametrize("addresses", ["a", "ab", "abc", "abcd"])
def test_the_oldest_of_each_address_comes_fourth(addresses: str) -> None:
    passing = Passing()
    gevent.joinall(passing.arrive("x", "x", *addresses * 10), timeout=PATIENCE)
    for number, address in enumerate(addresses, 2):
        of_one = [it for it in passing.passed if it.startswith(address)]
        assert of_one[3] == f"{address} {number}"


def test_an_ipv6_network_is_one_client() -> None:
    networks = ["2001:db8::1", "2001:db8::2:1", "2001:db8:0:1::1"], ["::ffff:192.0.2.1"]
    passing = Passing()
    gevent.joinall(passing.arrive("x", "x", *networks[0], *networks[1]), timeout=PATIENCE)
    assert [it.split()[1] for it in passing.passed[2:]] == ["3", "4", "5", "2"]


def test_who_is_killed_while_it_waits_does_not_keep_the_others() -> None:
    passing = Passing()
    waiting = passing.arrive(*"aaabbb")
    gevent.sleep(0)
    gevent.killall([waiting[1], waiting[2], waiting[5]])
    gevent.joinall(waiting, timeout=PATIENCE)
    assert all(it.dead for it in waiting)
    assert passing.passed == ["a 0", "b 4", "b 3"]
    gevent.joinall(passing.arrive("c"), timeout=PATIENCE)
    assert passing.passed[3:] == ["c 0"]
