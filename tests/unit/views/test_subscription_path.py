"""Which subscriptions a path names, also behind proxies that decode it."""

from __future__ import annotations

import pytest

from webapp.errors import NotFound
from webapp.views.subscription_path import SubscriptionPath

ALL = "/.well-known/mercure/subscriptions"
NAME = "urn:uuid:7f6fd8dc"
ENCODED = "urn%3Auuid%3A7f6fd8dc"


@pytest.mark.parametrize(
    ("below", "topic", "subscriber", "decoded"),
    [
        ("", None, None, False),
        ("?x=/y", None, None, False),
        ("/news", "news", None, False),
        ("/%2Fusers%2F7", "/users/7", None, False),
        (f"/news/{NAME}", "news", NAME, False),
        (f"/%2Fusers%2F7/{ENCODED}", "/users/7", NAME, False),
        (f"/{ENCODED}", NAME, None, False),
        (f"/{ENCODED}/{ENCODED}", NAME, NAME, False),
        (f"/users/7/{NAME}", "users/7", NAME, True),
        (f"//users/7/{NAME}", "/users/7", NAME, True),
        ("/users/7", "users/7", None, True),
        ("/", "", None, True),
    ],
)
def test_a_path_names_a_topic_and_a_subscriber(
    below: str, topic: str | None, subscriber: str | None, *, decoded: bool
) -> None:
    for prefix in ("", "/hub", "http://localhost"):
        assert SubscriptionPath.parse(prefix + ALL + below) == (topic, subscriber, decoded)


@pytest.mark.parametrize("other", ["x", "%2Fnews", "s/news"])
def test_a_path_that_only_begins_like_it_names_nothing(other: str) -> None:
    with pytest.raises(NotFound):
        SubscriptionPath.parse(ALL + other)


def test_its_text_is_the_path_that_listings_have() -> None:
    assert str(SubscriptionPath.parse(f"{ALL}//a/b/{NAME}")) == f"{ALL}/%2Fa%2Fb/{ENCODED}"
    assert str(SubscriptionPath()) == ALL
