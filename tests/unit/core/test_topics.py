"""What a pattern selects, and what of the hub's own no pattern grants."""

import pytest

from webapp.core import topics
from webapp.core.topics import (
    DEFAULT_TOPIC,
    EVERYTHING,
    MAX_ENCODINGS,
    SUBSCRIPTIONS_PATH,
    TopicPatterns,
    decode_topic,
    grants,
    is_reserved,
    may_grant,
)


def only(text: str) -> TopicPatterns:
    return TopicPatterns(frozenset({text}))


FAULTY = [
    "{", "}", "{}", "a{b", "a}b", "{a}}", "{{a}}", "{a{b}c}", "{a}{", "{=a}", "{,a}", "{!a}",
    "{@a}", "{|a}", "{$a}", "{-a}", "{a b}", "{a,}", "{a,,b}", "{a, b}", "{é}", "{a%2}", "{a..b}",
    "{.}", "{..a}", "{a.}", "{a:0}", "{a:01}", "{a:10000}", "{a:}", "{a:x}", "{a:2*}", "{a**}",
    "{a*:2}", "{a=b}", "{??a}", "{/?a}", "{a}\n", "{a\n}", "{a} b", "<{a}>", "{a}%2", "{a}^",
    "{a}\x7f",
]  # fmt: skip


@pytest.mark.parametrize("text", FAULTY)
def test_a_faulty_template_is_an_exact_topic(text: str) -> None:
    assert only(text).exact == {text}
    assert only(text).matches(text)
    assert not only(text).matches(text.replace("{a}", "1") + "1")


@pytest.mark.parametrize("text", [DEFAULT_TOPIC, "", "https://example.com/é 1", "**", "%zz"])
def test_any_other_text_is_an_exact_topic(text: str) -> None:
    assert only(text).exact == {text}
    assert only(text).matches(text)
    assert not only(text).matches(text + "x")


@pytest.mark.parametrize(
    "topic", ["", DEFAULT_TOPIC, "*", "{", "a b\n", "https://example.com/{id}"]
)
def test_the_star_matches_everything(topic: str) -> None:
    assert only(EVERYTHING).exact == frozenset()
    assert only(EVERYTHING).matches(topic)


def test_a_template_matches_its_own_text() -> None:
    assert only("/users/{id}").matches("/users/{id}")
    assert not only("/users/{id}").matches("/users/{name}")


def test_a_set_of_patterns_matches_a_topic_when_one_of_them_does() -> None:
    wanted = TopicPatterns(frozenset({"a", "/users/{id}"}))
    assert wanted.matches("/users/1")
    assert wanted.matches("a")
    assert not wanted.matches("/users/1/secret")
    assert not TopicPatterns(frozenset()).matches("a")


OWN = ["/metrics", "/topics", "/console/state", "/.well-known/mercure/subscriptions/a/b"]


@pytest.mark.parametrize("path", OWN)
def test_a_pattern_that_is_meant_for_others_grants_nothing_of_the_hub(path: str) -> None:
    patterns = {
        "/{a}",
        "/{a}/{b}",
        "{/path*}",
        "{+all}",
        "/{a}/{b}/{c}/{d}/{e}",
        "/.well-known{/a*}",
    }
    grant = frozenset(patterns | {path[:3] + "{+rest}", path + "{x}y"})
    assert TopicPatterns(grant).matches(path)
    assert not grants(grant, path)
    assert not may_grant(frozenset(patterns), SUBSCRIPTIONS_PATH)
    for enough in (path, "*"):
        assert grants(grant | {enough}, path)


def test_a_pattern_grants_what_is_the_hubs_where_it_says_so_literally() -> None:
    for text in (f"{SUBSCRIPTIONS_PATH}{{/topic}}{{/subscriber}}", "/.well-known/mercure/{+rest}"):
        assert grants(frozenset({text}), OWN[-1])
        assert may_grant(frozenset({text}), SUBSCRIPTIONS_PATH)
    assert grants(frozenset({"/console/{page}"}), "/console/state")
    assert not may_grant(frozenset({"/console/{+page}"}), SUBSCRIPTIONS_PATH)
    assert grants(frozenset({"/{a}/{b}"}), "/consoles/state")


def test_a_topic_that_is_encoded_too_often_is_taken_for_the_hubs_own() -> None:
    assert not is_reserved("%25" * 300)
    assert not is_reserved("100%2525")
    assert is_reserved("%" + "25" * 500)
    assert decode_topic("%" + "25" * MAX_ENCODINGS) == "%"
    assert decode_topic("%" + "25" * (MAX_ENCODINGS + 1)) is None


def test_every_cache_is_bounded() -> None:
    caches = [it for it in vars(topics).values() if hasattr(it, "cache_parameters")]
    assert caches
    assert all(it.cache_parameters()["maxsize"] for it in caches)
