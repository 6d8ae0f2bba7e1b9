"""The recipes for htmx, Datastar and Turbo, in pages of another origin than the hub's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest
from playwright.sync_api import expect

from support.cli import shell_environment
from support.doc_pages import blocks
from support.plain_server import plain_server
from support.programs import need
from support.project import ROOT
from support.waiting import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from support.server import Server

pytestmark = pytest.mark.slow

# npm has no Datastar that is newer than 1.0.0-beta.11. There the same has other names, and instead
# of `retry: 'always'` only the retries after a lost connection: here the end of a stream is one.
BETA = {
    "data-init=": "data-on-load=",
    "datastar-patch-elements": "datastar-merge-fragments",
    "mode append": "mergeMode append",
    "elements <li>": "fragments <li>",
}
RETRY_ALWAYS = """<script>
  const { fetch } = window;
  window.fetch = async (...request) => {
    const { body, headers } = await fetch(...request);
    const flush = (controller) => controller.error(new Error("The stream has ended."));
    return new Response(body.pipeThrough(new TransformStream({ flush })), { headers });
  };
</script>"""


def beta(text: str) -> str:
    for name, old in BETA.items():
        text = text.replace(name, old)
    return text


def scripts(*paths: str, kind: str = "text/javascript") -> str:
    """What a page that loads these has in it."""
    need("npm")
    modules = [ROOT / "tests/node_modules" / path for path in paths]
    return "".join(f'<script type="{kind}">{path.read_text()}</script>' for path in modules)


class Recipe(NamedTuple):
    """What a page has, how it is published to, and whether a hidden page ends its stream."""

    html: str
    scripts: str
    sh: str
    pauses: bool = False


def htmx_2() -> Recipe:
    element, sh, _ = blocks("guides/htmx-turbo.md", "htmx 2", "html", "sh", "html")
    return Recipe(element, scripts("htmx.org/dist/htmx.min.js", "htmx-ext-sse/sse.js"), sh)


def htmx_2_with_tidings_js() -> Recipe:
    [_, _, module] = blocks("guides/htmx-turbo.md", "htmx 2", "html", "sh", "html")
    recipe = htmx_2()
    return recipe._replace(html=recipe.html + module)


def htmx_4() -> Recipe:
    element, sh = blocks("guides/htmx-turbo.md", "htmx 4", "html", "sh")
    library = scripts("htmx4/dist/htmx.min.js", "htmx4/dist/ext/hx-sse.js")
    return Recipe(element, library, sh, pauses=True)


def datastar() -> Recipe:
    html, sh = blocks("guides/htmx-turbo.md", "Datastar", "html", "sh")
    bundle = scripts("@starfederation/datastar/dist/datastar.js", kind="module")
    return Recipe(beta(html), RETRY_ALWAYS + bundle, beta(sh), pauses=True)


def turbo() -> Recipe:
    html, sh = blocks("guides/htmx-turbo.md", "Turbo", "html", "sh")
    return Recipe(html, scripts("@hotwired/turbo/dist/turbo.es2017-umd.js"), sh)


RECIPES = {it.__name__: it for it in (htmx_2, htmx_2_with_tidings_js, htmx_4, datastar, turbo)}
SET_HIDDEN = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: !!hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


class Tab:
    """A recipe's page, and a topic of its own."""

    def __init__(self, name: str, hub: Server, page: Page) -> None:
        self.topic, self.page, self.hub = f"{name}-topic", page, hub
        self.recipe = RECIPES[name]()
        self.shown: list[str] = []

    def html(self) -> bytes:
        html = re.sub(r"topic=\w+", f"topic={self.topic}", self.recipe.html)
        html = re.sub(r"(?=sse-swap|hx-sse)", 'hx-swap="beforeend" ', html)
        html = html.replace("https://hub.example", self.hub.url)
        return f"<!doctype html><meta charset=utf-8>{html}{self.recipe.scripts}".encode()

    def begin(self, env: dict[str, str]) -> None:
        """Publish the recipe's event, of which the others are copies."""
        until(self.opened, f"{self.topic} has a subscriber")
        code = re.sub(r"--topic \w+", f"--topic {self.topic}", self.recipe.sh)
        subprocess.run([need("sh"), "-c", code], env=env, check=True, timeout=PATIENCE)
        with self.hub.listen(topic=self.topic, last=1) as stream:
            [self.event] = stream.messages(1)
        self.shown = ["Hello"]
        self.shows()

    def opened(self) -> int:
        return self.hub.log.count(f" topics={self.topic} from=")

    def left(self) -> int:
        return self.hub.left(self.topic)

    def publish(self, text: str) -> None:
        self.shown.append(text)
        data, type_ = self.event.data.replace("Hello", text), self.event.type.replace("message", "")
        self.hub.publish(data, topic=self.topic, type=type_)

    def shows(self) -> None:
        """Each fragment once, in order."""
        expect(self.page.locator("b, li"), self.topic).to_have_text(self.shown)


@pytest.fixture(name="site")
def _site() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Another origin than the hub's, and its pages."""
    with plain_server() as (url, handler):
        yield url, handler.pages


def test_pages_miss_no_fragment(
    serve: Callable[..., Server],
    chromium: Browser,
    site: tuple[str, dict[str, bytes]],
    tmp_path: Path,
) -> None:
    url, pages = site
    hub = serve(
        TIDINGS_CORS_ORIGINS=url,
        TIDINGS_MAX_AGE="1s",
        TIDINGS_RETRY="0.1",
        TIDINGS_DRAIN="0.5",
        TIDINGS_DEMO="0",
    )
    env = shell_environment(tmp_path, TIDINGS_URL=hub.url)
    context = chromium.new_context()
    tabs = [Tab(name, hub, context.new_page()) for name in RECIPES]
    for tab in tabs:
        pages[f"/{tab.topic}"] = tab.html()
        tab.page.goto(f"{url}/{tab.topic}")
        tab.begin(env)

    def all_show(text: str) -> None:
        for tab in tabs:
            tab.publish(text)
        for tab in tabs:
            tab.shows()

    until(lambda: all(tab.left() > 1 for tab in tabs), "their streams have ended by max_age")
    all_show("aged")
    worker = hub.worker
    hub.process.send_signal(signal.SIGHUP)
    until(lambda: hub.worker != worker, "a deploy")
    all_show("deployed")
    for tab in tabs:
        tab.page.evaluate(SET_HIDDEN, "hidden")
    pausing = [tab for tab in tabs if tab.recipe.pauses]
    until(lambda: all(tab.left() == tab.opened() for tab in pausing), "they have closed theirs")
    for tab in tabs:
        tab.publish("hidden")
    for tab in tabs:
        tab.page.evaluate(SET_HIDDEN, "")
        tab.shows()
    worker = hub.worker
    os.kill(worker, signal.SIGKILL)
    until(lambda: hub.worker != worker, "a crash")
    all_show("crashed")
    context.close()
