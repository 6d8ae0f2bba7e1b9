"""URI templates: RFC 6570's own examples, what must not match, and any template."""

import re
import sys
from itertools import combinations
from types import FrameType

import pytest
import uritemplate
from hypothesis import given, settings
from hypothesis import strategies as st
from uritemplate.variable import VariableValue, VariableValueDict

from webapp.core.topics import TopicPatterns


def only(text: str) -> TopicPatterns:
    return TopicPatterns(frozenset({text}))


# The tables of RFC 6570 sections 1.2 and 3.2: a template, then what it expands to.
RFC_6570 = """
{count}           one,two,three
{count*}          one,two,three
{/count}          /one,two,three
{/count*}         /one/two/three
{;count}          ;count=one,two,three
{;count*}         ;count=one;count=two;count=three
{?count}          ?count=one,two,three
{?count*}         ?count=one&count=two&count=three
{&count*}         &count=one&count=two&count=three
{var}             value
{hello}           Hello%20World%21
{half}            50%25
O{empty}X         OX
O{undef}X         OX
{x,y}             1024,768
{x,hello,y}       1024,Hello%20World%21,768
?{x,empty}        ?1024,
?{x,undef}        ?1024
?{undef,y}        ?768
map?{x,y}         map?1024,768
{var:3}           val
{var:30}          value
{list}            red,green,blue
{keys}            semi,%3B,dot,.,comma,%2C
{keys*}           semi=%3B,dot=.,comma=%2C
{+var}            value
{+hello}          Hello%20World!
{+half}           50%25
{base}index       http%3A%2F%2Fexample.com%2Fhome%2Findex
{+base}index      http://example.com/home/index
O{+empty}X        OX
O{+undef}X        OX
{+path}/here      /foo/bar/here
here?ref={+path}  here?ref=/foo/bar
up{+path}{var}/here  up/foo/barvalue/here
{+x,hello,y}      1024,Hello%20World!,768
{+path,x}/here    /foo/bar,1024/here
{+path:6}/here    /foo/b/here
{+list*}          red,green,blue
{+keys}           semi,;,dot,.,comma,,
{+keys*}          semi=;,dot=.,comma=,
{#var}            #value
{#hello}          #Hello%20World!
{#half}           #50%25
foo{#empty}       foo#
foo{#undef}       foo
{#x,hello,y}      #1024,Hello%20World!,768
{#path,x}/here    #/foo/bar,1024/here
{#path:6}/here    #/foo/b/here
{#list*}          #red,green,blue
{#keys}           #semi,;,dot,.,comma,,
{#keys*}          #semi=;,dot=.,comma=,
{.who}            .fred
{.who,who}        .fred.fred
{.half,who}       .50%25.fred
www{.dom*}        www.example.com
X{.var}           X.value
X{.empty}         X.
X{.undef}         X
X{.var:3}         X.val
X{.list}          X.red,green,blue
X{.list*}         X.red.green.blue
X{.keys}          X.semi,%3B,dot,.,comma,%2C
X{.keys*}         X.semi=%3B.dot=..comma=%2C
X{.empty_keys*}   X
{/who}            /fred
{/who,who}        /fred/fred
{/half,who}       /50%25/fred
{/who,dub}        /fred/me%2Ftoo
{/var}            /value
{/var,empty}      /value/
{/var,undef}      /value
{/var,x}/here     /value/1024/here
{/var:1,var}      /v/value
{/list}           /red,green,blue
{/list*}          /red/green/blue
{/list*,path:4}   /red/green/blue/%2Ffoo
{/keys}           /semi,%3B,dot,.,comma,%2C
{/keys*}          /semi=%3B/dot=./comma=%2C
{;who}            ;who=fred
{;half}           ;half=50%25
{;empty}          ;empty
{;v,empty,who}    ;v=6;empty;who=fred
{;v,bar,who}      ;v=6;who=fred
{;x,y}            ;x=1024;y=768
{;x,y,empty}      ;x=1024;y=768;empty
{;x,y,undef}      ;x=1024;y=768
{;hello:5}        ;hello=Hello
{;list}           ;list=red,green,blue
{;list*}          ;list=red;list=green;list=blue
{;keys}           ;keys=semi,%3B,dot,.,comma,%2C
{;keys*}          ;semi=%3B;dot=.;comma=%2C
{?who}            ?who=fred
{?half}           ?half=50%25
{?x,y}            ?x=1024&y=768
{?x,y,empty}      ?x=1024&y=768&empty=
{?x,y,undef}      ?x=1024&y=768
{?var:3}          ?var=val
{?list}           ?list=red,green,blue
{?list*}          ?list=red&list=green&list=blue
{?keys}           ?keys=semi,%3B,dot,.,comma,%2C
{?keys*}          ?semi=%3B&dot=.&comma=%2C
{&who}            &who=fred
{&half}           &half=50%25
?fixed=yes{&x}    ?fixed=yes&x=1024
{&x,y,empty}      &x=1024&y=768&empty=
{&x,y,undef}      &x=1024&y=768
{&var:3}          &var=val
{&list*}          &list=red&list=green&list=blue
{&keys*}          &semi=%3B&dot=.&comma=%2C
"""
TOO_MUCH = [
    ("/users/{id}", "/users/1/secret"),
    ("/users/{id}", "/users/1?x=y"),
    ("/users/{id}", "/users/1#x"),
    ("/users/{id}", "/users/1=2"),
    ("/users/{id}", "/users/1%2"),
    ("/users/{id}", "/users/é"),
    ("/users/{id}", "/users/1\n"),
    ("/users/{id}", "/users"),
    ("/users/{id}", "x/users/1"),
    ("/users/{id}/x", "/users/1/xx"),
    ("/users/{id}/x", "/users/1/y"),
    ("/users/{id:3}", "/users/1234"),
    ("/users/{id:3}", "/users/1,2"),
    ("{a:1}", "%C3%A9%C3%A9"),
    ("{a:2,b:2}", "abcd"),
    ("{a,b}", "1=2"),
    ("{+a}", "a b"),
    ("{+a:3}", "/a/b"),
    ("{#a}", "a"),
    ("x{/v}", "xfoo"),
    ("x{/v}", "x/foo/bar"),
    ("x{/v,w}", "x/foo/bar/baz"),
    ("x{/v*}", "xfoo"),
    ("x{/v*}", "x/a=b=c"),
    ("x{/v*}", "x/a?b"),
    ("x{.v*}", "x.a=b=c"),
    ("x{.v*}", "x.a,b"),
    ("{;a}", ";b=1"),
    ("{;a}", ";ab"),
    ("{;a*}", ";a=1=2"),
    ("{?a}", "?b=1"),
    ("{?a}", "?a"),
    ("{?a}", "?"),
    ("{?a}", "&a=1"),
    ("{?a,b}", "?b=1&a=2"),
    ("{?a,b}", "?a=1?b=2"),
    ("{?a,b}", "?a=1b=2"),
    ("{?a,b}", "?a=1&"),
    ("{?a*}", "?x"),
    ("{?a*}", "?x=1&"),
    ("{?a*}", "?x=1&y"),
    ("{?a*}", "?x=1=2"),
    ("{?a*}", "?x&y=1"),
    ("{?a*}", "?x=1&y&z=2"),
    ("{?a*}{x}", "?x=1&y"),
    ("{&a}", "?a=1"),
    ("%2F{a}", "/1"),
]


@pytest.mark.parametrize("example", RFC_6570.strip().splitlines())
def test_a_template_matches_its_expansion_in_the_rfc(example: str) -> None:
    template, expansion = example.split()
    assert only(template).matches(expansion)
    assert not only(template).matches(expansion + "|")


@pytest.mark.parametrize(
    ("template", "topic"),
    [
        ("/users/{id}", "/users/"),
        ("/users/{id}", "/users/a-._~%2Fb"),
        ("{a:1}", "%E2%82%AC"),
        ("{a.b}", "1"),
        ("{;%41}", ";%41=1"),
        ("{?a,b}", "?b=1"),
        ("é{a}", "é1"),
        ("it's{a}", "it's"),
        ("{a}{b}{c}x{d}", "abcxxd"),
        ("{a}/{a}", "1/2"),
        ("{/a*}", "/1/k=v"),
        ("%C3{a}", "%C3%A9"),
    ],
)
def test_a_template_matches(template: str, topic: str) -> None:
    assert only(template).matches(topic)


@pytest.mark.parametrize(("template", "topic"), TOO_MUCH)
def test_a_template_grants_nothing_that_it_does_not_expand_to(template: str, topic: str) -> None:
    assert only(template).exact == frozenset()
    assert not only(template).matches(topic)


@pytest.mark.parametrize(
    ("template", "topic"),
    [
        ("{a}{b}{c}x{d}" * 50, "a" * 2000),
        ("{/a*}{/b*}" * 100, "/a" * 1000),
        ("{?a*}{&b*}" * 100, "?" + "a=1&" * 500),
        ("{+a}{#b}" * 100, "a#" * 1000),
        ("{a:9999}{b:9999}" * 100, "a" * 2000),
        ("{" + "a" * 2000, "a" * 2000),
        ("{" + "a," * 1000 + "}", "a," * 1000),
        ("{a}" + "%41" * 1000 + "%", "%41" * 1000),
        ("{a}" + "".join(map(chr, range(0x4E00, 0x5E00))), "a" * 2000),
    ],
)
def test_a_large_template_is_no_attack(template: str, topic: str) -> None:
    """If parsing or matching backtracked, this test would not end."""
    assert not only(template).matches(topic + "\n")


def calls(template: str, topic: str) -> int:
    """Count the Python functions that a match calls; each does a few operations on ints."""
    count = 0
    wanted = only(template)
    wanted.matches("the first match reads the template")

    def profile(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(profile)
    try:
        wanted.matches(topic)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    ("part", "unit"),
    [
        ("{a}", "a"),
        ("{a,b:9}", "a,"),
        ("{+a}", "a/"),
        ("{#a,b}", "#a"),
        ("{.a*}", ".a=b"),
        ("{/a*}", "/a"),
        ("{;a,b}", ";a=1"),
        ("{?a*,b}", "?a=1"),
    ],
)
def test_the_work_depends_on_the_template_alone(part: str, unit: str) -> None:
    """A longer topic takes longer ints but no more steps, and twice the template twice as many."""
    steps = calls(part * 100, unit * 1000)
    assert calls(part * 100, unit * 10) == steps
    assert calls(part * 200, unit * 1000) < 2.1 * steps


Variable = tuple[str, str]  # name and modifier
Expression = tuple[str, list[Variable]]  # operator and variables
Part = str | Expression
OPERATORS = ["", "+", "#", ".", "/", ";", "?", "&"]
variables = st.one_of(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["", "*", ":1", ":2", ":30"])),
    st.tuples(st.sampled_from("lm"), st.sampled_from(["", "*"])),
)
literals = st.lists(st.sampled_from([*"abx/.,;=&?#é", "%2F"]), max_size=3).map("".join)


def templates(most_variables: int, most_parts: int) -> st.SearchStrategy[list[Part]]:
    several = st.lists(variables, min_size=1, max_size=most_variables)
    expressions = st.tuples(st.sampled_from(OPERATORS), several)
    return st.lists(expressions | expressions | literals, min_size=1, max_size=most_parts)


def assignments(texts: st.SearchStrategy[str]) -> st.SearchStrategy[VariableValueDict]:
    """Give each variable a value or leave it undefined."""
    kinds: dict[str, st.SearchStrategy[VariableValue]] = {
        "a": texts,
        "b": texts,
        "l": st.lists(texts, min_size=1, max_size=3),
        "m": st.dictionaries(texts, texts, min_size=1, max_size=2),
    }
    return st.fixed_dictionaries({}, optional=kinds)


def write(part: Part) -> str:
    if isinstance(part, str):
        return part
    operator, named = part
    return "{" + operator + ",".join(name + modifier for name, modifier in named) + "}"


@settings(deadline=None, max_examples=300)
@given(templates(3, 5), assignments(st.text("xyzéß€😀/,;=&?#.%~! ", max_size=4)))
def test_a_template_matches_all_that_it_expands_to(
    parts: list[Part], values: VariableValueDict
) -> None:
    template = "".join(map(write, parts))
    assert only(template).matches(uritemplate.expand(template, values))


UNRESERVED = r"(?:[A-Za-z0-9._~-]|%[0-9A-Fa-f]{2})"
RESERVED = r"(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})"


def naive_variable(operator: str, name: str, modifier: str) -> str:
    letter = RESERVED if operator in {"+", "#"} else UNRESERVED
    if modifier == "*" and letter == UNRESERVED:
        value = f"={letter}*" if operator in {"?", "&"} else f"(?:={letter}*)?"
        member, separator = f"{letter}*{value}", re.escape(naive_marks(operator)[1])
        return f"{member}(?:{separator}{member})*"
    value = f"{letter}{{0,{modifier[1:]}}}" if modifier[:1] == ":" else f"(?:{letter}|,)*"
    named = {";": f"{name}(?:={value})?", "?": f"{name}={value}", "&": f"{name}={value}"}
    return named.get(operator, value)


def naive_marks(operator: str) -> tuple[str, str]:
    separators = {".": ".", "/": "/", ";": ";", "?": "&", "&": "&"}
    return operator.replace("+", ""), separators.get(operator, ",")


def naive(part: Part) -> str:
    """Translate as the RFC reads, one alternative for each choice of what is defined."""
    if isinstance(part, str):
        return re.escape(part)
    operator, named = part
    first, separator = map(re.escape, naive_marks(operator))
    written = [naive_variable(operator, *it) for it in named]
    chosen = [it for size in range(1, len(written) + 1) for it in combinations(written, size)]
    return f"(?:{'|'.join(first + separator.join(it) for it in chosen)})?"


slips = st.tuples(
    st.integers(0, 9), st.integers(0, 1), st.sampled_from(["", *"abx/.,;=&?#% é", "%2F"])
)


@settings(deadline=None, max_examples=500)
@given(templates(2, 3), assignments(st.text("ax/,=.% ", max_size=2)), st.lists(slips, max_size=3))
def test_matching_agrees_with_a_naive_regular_expression(
    parts: list[Part], values: VariableValueDict, slips: list[tuple[int, int, str]]
) -> None:
    template = "".join(map(write, parts))
    topic = uritemplate.expand(template, values)[:12]
    for position, deleted, added in slips:
        topic = topic[:position] + added + topic[position + deleted :]
    pattern = "".join(map(naive, parts))
    assert only(template).matches(topic) == bool(re.fullmatch(pattern, topic))
