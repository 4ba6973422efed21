"""Pictures are well-formed SVG that shows every figure, and text from outside stays text."""

import math
import re
from xml.etree import ElementTree

import pytest

from microrec.report import svg
from microrec.report.svg import Point


def drawn(picture: str) -> ElementTree.Element:
    """The SVG element of a picture, parsed."""
    return ElementTree.fromstring(picture[: picture.index("</svg>") + len("</svg>")])


def test_lines_place_each_point_by_value_and_night() -> None:
    points = [
        Point("2026-01-01", 1.0, 0.5, 1.5),
        Point("2026-01-02", 3.0),
        Point("2026-01-03", 2.0),
    ]
    picture = drawn(svg.lines({"blend": points}, title="ndcg"))
    assert picture.attrib["aria-label"] == "ndcg"
    circles = picture.findall("circle")
    x = [float(each.attrib["cx"]) for each in circles]
    y = [float(each.attrib["cy"]) for each in circles]
    assert x == sorted(x)
    assert y[1] < y[2] < y[0], "the greatest value stands highest"
    (interval,) = [each for each in picture.findall("line") if "stroke" in each.attrib]
    ends = sorted(float(interval.attrib[name]) for name in ("y1", "y2"))
    assert ends[0] < y[0] < ends[1]


def test_lines_leave_out_what_is_not_finite_and_say_so_where_nothing_is_left() -> None:
    points = [Point("2026-01-01", math.nan), Point("2026-01-02", 1.0)]
    assert len(drawn(svg.lines({"blend": points}, title="")).findall("circle")) == 1
    assert svg.lines({"blend": points[:1]}, title="") == "<p>Nothing to draw yet.</p>"
    assert svg.lines({}, title="") == svg.bars({}, title="") == "<p>Nothing to draw yet.</p>"


def test_bars_are_as_long_as_their_shares() -> None:
    picture = drawn(svg.bars({"history=1": {"content": 0.25, "ease": 0.75}}, title="shares"))
    widths = [float(each.attrib["width"]) for each in picture.findall("rect")]
    assert widths[1] == pytest.approx(3 * widths[0], rel=0.01)


def test_text_from_outside_stays_text() -> None:
    name = '<b>"&'
    picture = svg.bars({name: {name: 1.0}}, title=name) + svg.lines(
        {name: [Point(name, 1)]}, title=name
    )
    assert "<b>" not in picture
    assert len(re.findall("&lt;b&gt;", picture)) >= 5
    drawn(picture)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.12345, "0.1235"), (12.34, "12.3"), (1234.5, "1,234")]
)
def test_figures_have_as_many_places_as_they_are_read_with(value: float, text: str) -> None:
    assert svg.number(value) == text
