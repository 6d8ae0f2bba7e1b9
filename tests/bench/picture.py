"""Ratios as bars: how many times better than one of those measured, on a logarithmic scale.

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
  .tidings, .bytes { fill: #0a7d6c }
  .bare, .CPU { fill: #9aa4af }
  .nchan, .packets { fill: #c08a3e }
  text.tidings { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .note { fill: #9198a1 } .page { fill: #0d1117 }
    .grid { stroke: #30363d } .naive { stroke: #9198a1 }
    .tidings, .bytes { fill: #2fc4ab }
    .bare, .CPU { fill: #6b7580 }
    .nchan, .packets { fill: #d29f55 }
  }
"""


def draw(ratios: dict[str, dict[str, float]], title: str, base: str, what: str) -> str:
    """Return the picture of what is measured; `base` is at 1, and `what` names the machine.

    :param ratios: of each group, the bars by their names.
    """
    values = [value for group in ratios.values() for value in group.values()]
    low = math.floor(math.log2(min([*values, 0.9])))
    high = math.ceil(math.log2(min(MOST, max([*values, 2]))))
    group_height = max(map(len, ratios.values())) * (BAR + GAP) + BETWEEN
    bottom = TOP + group_height * len(ratios)

    def position(value: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (math.log2(min(value, MOST)) - low) / (high - low)

    parts = [_frame(bottom + 54, title), _text(24, 36, title, "title")]
    parts += _legend(list(next(iter(ratios.values()))))
    for power in range(low, high + 1):
        parts.append(_tick(position(2.0**power), bottom, power, base))
    for number, (name, group) in enumerate(ratios.items()):
        y = TOP + number * group_height + BETWEEN / 2
        middle = y + len(group) * (BAR + GAP) / 2 + 3
        parts.append(_text(LEFT - 16, middle, name, anchor="end"))
        for bar, value in group.items():
            parts.append(_bar(bar, position(1), position(value), y, value))
            y += BAR + GAP
    return "\n".join([*parts, _text(24, bottom + 42, what, "note"), "</svg>\n"])


def _frame(height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n"
        f'<rect class="page" width="{WIDTH}" height="{height:.0f}" rx="8"/>'
    )


def _legend(bars: list[str]) -> list[str]:
    parts = []
    for number, bar in enumerate(bars):
        x = LEFT + number * 100
        parts.append(f'<rect class="{bar}" x="{x}" y="52" width="12" height="12" rx="2"/>')
        parts.append(_text(x + 18, 63, bar))
    return parts


def _tick(x: float, bottom: float, power: int, base: str) -> str:
    kind = "grid" if power else "naive"
    name = f"{2**power}{TIMES}" if power > 0 else f"1/{2**-power}{TIMES}" if power else base
    line = f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>'
    return line + _text(x, bottom + 18, name, "note", "middle")


def _bar(bar: str, one: float, x: float, y: float, value: float) -> str:
    width = max(abs(x - one), 1)
    rect = f'<rect class="{bar}" x="{min(one, x):.1f}" y="{y:.1f}" width="{width:.1f}" '
    times = "over 1,000" if value > 1000 else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
    label = _text(max(one, x) + 6, y + 13, times + TIMES, "note")
    return f'{rect}height="{BAR}" rx="2"/>{label}'


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    words = text.replace("&", "&amp;").replace("<", "&lt;")
    shown = f' class="{kind}"' if kind else ""
    return f'<text{shown} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{words}</text>'
