"""Pictures as SVG text, to stand inside a page: lines over nights with their intervals, bars of shares."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#9a6700", "#8250df", "#57606a", "#bf3989", "#0969da")
WIDTH, HEIGHT = 640, 200
LEFT, RIGHT, TOP, BOTTOM = 76, 12, 16, 28
BAR, GAP = 20, 8


class Point(NamedTuple):
    """A figure of one night, with its interval where it has one."""

    label: str
    value: float
    low: float | None = None
    high: float | None = None


def lines(series: Mapping[str, Sequence[Point]], *, title: str) -> str:
    """Draw figures over nights.

    Args:
        series: points by name, oldest first; a night that a series lacks is left out of its line.
        title: read out in place of the picture.

    Returns:
        An `svg` element; a sentence where there is nothing to draw.
    """
    points = [point for each in series.values() for point in each if math.isfinite(point.value)]
    if not points:
        return "<p>Nothing to draw yet.</p>"
    labels = sorted({point.label for point in points})
    ends = [
        end for point in points for end in (point.value, point.low, point.high) if end is not None
    ]
    low, high = min([0.0, *ends]), max(ends)
    high = high if high > low else low + 1.0

    def x(label: str) -> float:
        step = (WIDTH - LEFT - RIGHT) / max(len(labels) - 1, 1)
        return LEFT + labels.index(label) * step

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    drawn = [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" class="grid"/>'
        f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{number(value)}</text>'
        for value in (low, (low + high) / 2, high)
    ]
    for colour, each in zip(_colours(len(series)), series.values(), strict=True):
        each = [point for point in each if math.isfinite(point.value)]
        path = " ".join(f"{x(point.label):.1f},{y(point.value):.1f}" for point in each)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for point in each:
            at = f"{x(point.label):.1f}"
            if point.low is not None and point.high is not None:
                drawn.append(
                    f'<line x1="{at}" x2="{at}" y1="{y(point.low):.1f}" y2="{y(point.high):.1f}"'
                    f' stroke="{colour}" stroke-opacity=".5"/>'
                )
            drawn.append(f'<circle cx="{at}" cy="{y(point.value):.1f}" r="3" fill="{colour}"/>')
    ends_of = (labels[0], "start", LEFT), (labels[-1], "end", WIDTH - RIGHT)
    drawn += [
        f'<text x="{at}" y="{HEIGHT - 6}" text-anchor="{anchor}">{escape(label)}</text>'
        for label, anchor, at in ends_of[: len(labels)]
    ]
    return _svg(drawn, HEIGHT, title) + legend(list(series))


def bars(shares: Mapping[str, Mapping[str, float]], *, title: str) -> str:
    """Draw shares as bars cut into parts.

    Args:
        shares: by bar, shares by part, which add up to 1 or less.
        title: read out in place of the picture.

    Returns:
        An `svg` element; a sentence where there is nothing to draw.
    """
    parts = sorted({part for each in shares.values() for part in each})
    if not parts:
        return "<p>Nothing to draw yet.</p>"
    colour_of = dict(zip(parts, _colours(len(parts)), strict=True))
    left = 150
    drawn = []
    for number_of_bar, (bar, each) in enumerate(shares.items()):
        top = GAP + number_of_bar * (BAR + GAP)
        drawn.append(f'<text x="{left - 6}" y="{top + 14}" text-anchor="end">{escape(bar)}</text>')
        at = float(left)
        for part in parts:
            width = max(each.get(part, 0.0), 0.0) * (WIDTH - left - RIGHT)
            drawn.append(
                f'<rect x="{at:.1f}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{colour_of[part]}">'
                f"<title>{escape(part)} {each.get(part, 0.0):.0%}</title></rect>"
            )
            at += width
    return _svg(drawn, GAP + len(shares) * (BAR + GAP), title) + legend(parts)


def legend(names: Sequence[str]) -> str:
    """Return which colour is whose.

    Args:
        names: in the order of the colours.
    """
    keys = [
        f'<span class="key"><i style="background:{colour}"></i>{escape(name)}</span>'
        for colour, name in zip(_colours(len(names)), names, strict=True)
    ]
    return f'<p class="legend">{"".join(keys)}</p>'


def number(value: float) -> str:
    """Return a figure in as many places as it is read with."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1 else f"{value:.4f}"


def _svg(drawn: Sequence[str], height: float, title: str) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title, {chr(34): "&quot;"})}">'
        f"{''.join(drawn)}</svg>"
    )


def _colours(n: int) -> list[str]:
    return [COLOURS[at % len(COLOURS)] for at in range(n)]
