"""The ratios as bars: how many times better than the naive server, on a logarithmic scale.

Plain SVG, readable on a light and on a dark page.
"""

from __future__ import annotations

import math

WIDTH, LEFT, RIGHT, TOP = 860, 260, 100, 84
BAR, GAP, BETWEEN = 16, 3, 20
MOST = 64  # times: a longer bar is cut off, its number tells
TIMES = "\N{MULTIPLICATION SIGN}"
STYLE = """
  text { font: 14px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 19px; font-weight: 600 }
  .note { font-size: 12px; fill: #59636e }
  .page { fill: #ffffff }
  .grid { stroke: #d1d9e0 } .naive { stroke: #59636e; stroke-width: 1.5 }
  .tidings { fill: #0a7d6c } .bare { fill: #9aa4af } .nchan { fill: #c08a3e }
  text.tidings { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .note { fill: #9198a1 } .page { fill: #0d1117 }
    .grid { stroke: #30363d } .naive { stroke: #9198a1 }
    .tidings { fill: #2fc4ab } .bare { fill: #6b7580 } .nchan { fill: #d29f55 }
  }
"""


def draw(ratios: dict[str, dict[str, float]], what: str) -> str:
    """Return the picture of what is measured, by server; `what` names the machine."""
    values = [value for group in ratios.values() for value in group.values()]
    low = math.floor(math.log2(min([*values, 0.9])))
    high = math.ceil(math.log2(min(MOST, max([*values, 2]))))
    group_height = max(map(len, ratios.values())) * (BAR + GAP) + BETWEEN
    bottom = TOP + group_height * len(ratios)

    def position(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log2(min(value, MOST)) - low) / (high - low)

    parts = [_frame(bottom + 54), _text(24, 36, "Times better than Flask + gevent", "title")]
    parts += _legend(list(next(iter(ratios.values()))))
    parts += [_tick(position(2.0**power), bottom, power) for power in range(low, high + 1)]
    for number, (title, group) in enumerate(ratios.items()):
        y = TOP + number * group_height + BETWEEN / 2
        middle = y + len(group) * (BAR + GAP) / 2 + 3
        parts.append(_text(LEFT - 16, middle, title, anchor="end"))
        for server, value in group.items():
            parts.append(_bar(server, position(1), position(value), y, value))
            y += BAR + GAP
    return "\n".join([*parts, _text(24, bottom + 42, what, "note"), "</svg>\n"])


def _frame(height: float) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">\n'
        f"<title>Times better than Flask + gevent</title>\n<style>{STYLE}</style>\n"
        f'<rect class="page" width="{WIDTH}" height="{height:.0f}" rx="8"/>'
    )


def _legend(servers: list[str]) -> list[str]:
    parts = []
    for number, server in enumerate(servers):
        x = LEFT + number * 100
        parts.append(f'<rect class="{server}" x="{x}" y="52" width="12" height="12" rx="2"/>')
        parts.append(_text(x + 18, 63, server))
    return parts


def _tick(x: float, bottom: float, power: int) -> str:
    kind = "grid" if power else "naive"
    name = f"{2**power}{TIMES}" if power > 0 else f"1/{2**-power}{TIMES}" if power else "naive"
    line = f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
    return line + _text(x, bottom + 18, name, "note", "middle")


def _bar(server: str, one: float, x: float, y: float, value: float) -> str:
    width = max(abs(x - one), 1)
    rect = f'<rect class="{server}" x="{min(one, x):.1f}" y="{y:.1f}" width="{width:.1f}" '
    times = "over 1,000" if value > 1000 else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
    label = _text(max(one, x) + 6, y + 13, times + TIMES, "note")
    return f'{rect}height="{BAR}" rx="2"/>{label}'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    words = text.replace("&", "&amp;").replace("<", "&lt;")
    shown = f' class="{kind}"' if kind else ""
    return f'<text{shown} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
