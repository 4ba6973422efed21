"""The page of a night, parsed: its first line, its parts, nothing from the network, no person, text that stays text."""

import datetime as dt
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs import report_night
from microrec.cli import app
from microrec.config import recipe
from microrec.config.settings import settings
from microrec.release import rollback
from microrec.report import facts, page
from microrec.tables import pages
from microrec.tables.arrow import Warehouse
from tests.worlds.releases import filled, publish

DAY = dt.date(2026, 1, 7)
BEFORE = DAY - dt.timedelta(days=1)
SOURCES = ("popularity", "content")
VOID = {"meta", "br"}
HOSTILE = "<script>alert(1)</script>"
EARLIER = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
LEAST_PEOPLE = 2


class Page(HTMLParser):
    """Tags and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.text: list[str] = []
        self.sections: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag == "section":
            self.sections[str(dict(attrs)["id"])] = []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip() and "style" not in self.open:
            self.text.append(data.strip())
            if "section" in self.open:
                list(self.sections.values())[-1].append(data.strip())


@pytest.fixture
def warehouse(place: Path) -> Warehouse:
    """Two releases: lists of three users, figures, gates, trends, candidates of two sources."""
    opened = Warehouse.open()
    for day, lift in ((BEFORE, 0.0), (DAY, 0.1)):
        publish(opened, day, 3, evidence_video_id=["seen-by-one"] * 3, reason=[HOSTILE] * 3)
        for source in SOURCES:
            rows = filled(opened, "candidates", 1).drop_columns(["fit", "source"])
            opened.write("candidates", rows, day=day, fit="final", source=source)
        measure(opened, day, lift)
    return opened


def measure(warehouse: Warehouse, day: dt.date, lift: float) -> None:
    """Metrics, trends, weights and similar videos of a day."""
    rows = [
        ("evaluation", "blend", "ndcg@20", "all", 0.3 + lift),
        ("evaluation", "blend", "coverage@20", "all", 0.9),
        ("evaluation", "popularity", "ndcg@20", "all", 0.1),
        ("evaluation", "popularity", "worth_ndcg@20", "all", 0.07),
        ("evaluation", "blend", "ndcg@20", "history=0", 0.2),
        ("events", "raw_interactions", "rows_in", "all", 1135.0),
        ("events", "raw_interactions", "rejected", "rule=bad_watch", 7.0),
        ("arrivals", "raw_interactions", "rows_in", "all", 1135.0),
    ]
    for stage in sorted({row[0] for row in rows}):
        _, name, metric, of, value = zip(*[row for row in rows if row[0] == stage], strict=True)
        n = len(name)
        given = {"name": name, "metric": metric, "slice": of, "value": value, "n": [9] * n}
        given |= {"low": [each - 0.01 for each in value], "high": [each + 0.01 for each in value]}
        metrics = filled(warehouse, "metrics", n, **given).drop_columns(["stage"])
        warehouse.write("metrics", metrics, day=day, stage=stage)
    tags = [["cats"], ["cats"], ["of one person"]]
    given = {"direction": ["rising"] * 3, "tags": tags, "videos": [[]] * 3}
    given["latest_at"] = [EARLIER] * 3
    warehouse.write("user_trends", filled(warehouse, "user_trends", 3, **given), day=day)
    fallback = filled(warehouse, "fallback_recommendations", 1, segment=["__global__"])
    warehouse.write("fallback_recommendations", fallback, day=day)
    beside = {"video_id": ["x"], "kind": ["fused"], "similar_video_id": [HOSTILE]}
    warehouse.write("similar_videos", filled(warehouse, "similar_videos", 1, **beside), day=day)


def gates(warehouse: Warehouse, *rows: tuple[str, str, str, float, float]) -> None:
    gate, severity, status, observed, threshold = zip(*rows, strict=True)
    given = {"gate": gate, "severity": severity, "status": status}
    given |= {"observed": observed, "threshold": threshold, "detail": [HOSTILE] * len(gate)}
    results = filled(warehouse, "gate_results", len(gate), **given).drop_columns(["fit"])
    warehouse.write("gate_results", results, day=DAY, fit="trial")


def told(warehouse: Warehouse, **options: Any) -> Page:
    of_night = facts.gather(warehouse, DAY, sources=SOURCES, least_people=LEAST_PEOPLE, **options)
    return Page(page.render(of_night))


def test_page_is_whole_and_needs_nothing_from_outside(warehouse: Warehouse) -> None:
    parsed = told(warehouse, samples=2, ids=True)
    assert not parsed.open, "every tag is closed"
    assert not parsed.links
    assert not {"script", "img", "link", "iframe"} & set(parsed.tags)
    assert "svg" in parsed.tags
    assert HOSTILE in parsed.text, "as text"
    names = {"gates", "arrivals", "quality", "blend", "shape", "clips", "lists", "changes", "cost"}
    assert set(parsed.sections) == names


def test_page_tells_figures_and_what_changed(warehouse: Warehouse) -> None:
    sections = told(warehouse).sections
    assert "0.4000 [0.3900, 0.4100]" in sections["quality"]
    assert "0.1000 [0.0900, 0.1100]" in sections["quality"]
    assert "0.0700 [0.0600, 0.0800]" in sections["quality"], "what the blend loses without it"
    assert "history=0" in sections["quality"]
    assert {"1,135", "bad_watch", "7"} <= set(sections["arrivals"])
    assert str(BEFORE) in " ".join(sections["changes"])
    at = sections["changes"].index("ndcg@20")
    assert sections["changes"][at : at + 3] == ["ndcg@20", "0.4000", "0.3000"]
    assert "similar_videos" in sections["cost"]


def test_page_names_no_person_unless_asked(warehouse: Warehouse) -> None:
    words = " ".join(told(warehouse).text)
    for text in ("u0", "u1", "u2", "seen-by-one", "of one person"):
        assert text not in words
    assert "cats" in words, "more than one person follows it"
    assert "user 1" in told(warehouse, samples=1).text
    unnamed = " ".join(told(warehouse, samples=3).text)
    assert "seen-by-one" not in unnamed
    assert "u1" not in unnamed
    named = " ".join(told(warehouse, samples=3, ids=True).text)
    assert {"u0", "u1", "u2"} <= set(named.split())
    assert "seen-by-one" in named


def first_line(parsed: Page) -> str:
    return next(
        text
        for text in parsed.text
        if not text.startswith(
            ("RELEASED -", "DEGRADED -", "HELD -", "WITHDRAWN -", "UNFINISHED -")
        )
    )


def test_first_line_says_released_degraded_held_and_withdrawn(warehouse: Warehouse) -> None:
    assert first_line(told(warehouse)).startswith(f"RELEASED: {DAY}-")
    warehouse.write_empty("candidates", day=DAY, fit="final", source="content")
    assert first_line(told(warehouse)).startswith("DEGRADED: no candidates of content")
    gates(warehouse, ("champion", "hold", "fail", 0.0, 1.0))
    assert first_line(told(warehouse)).startswith(f"HELD: champion ({HOSTILE}); the release of an")
    warehouse.remove("releases", [{"day": DAY}])
    assert first_line(told(warehouse)).endswith("the last release stands")
    warehouse.remove("gate_results", [{"day": DAY, "fit": "trial"}, {"day": DAY, "fit": "final"}])
    assert first_line(told(warehouse)).startswith("UNFINISHED: no gate failed")


def test_first_line_of_a_withdrawn_night_has_the_reason(warehouse: Warehouse) -> None:
    rollback.to(str(BEFORE), reason="wrong videos in it", root=warehouse.root)
    assert first_line(told(warehouse)) == (
        "WITHDRAWN: consumers follow another release: wrong videos in it"
    )


def test_gates_near_their_edge_are_told(warehouse: Warehouse) -> None:
    gates(
        warehouse,
        ("near", "warn", "pass", 0.85, 1.0),
        ("far", "warn", "pass", 0.5, 1.0),
        ("exact", "hold", "pass", 1.0, 1.0),
        ("broken", "warn", "fail", 2.0, 1.0),
    )
    of_gates = told(warehouse).sections["gates"]
    assert {"near", "broken"} <= set(of_gates)
    assert not {"far", "exact"} & set(of_gates)


def test_a_day_without_any_table_has_a_page(place: Path) -> None:
    parsed = told(Warehouse.open())
    assert first_line(parsed) == "UNFINISHED: nothing was committed of this day"


def test_job_writes_the_page_beside_the_tables_and_the_command_anywhere(
    warehouse: Warehouse, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    settings.cache_clear()
    (place / "recipe.toml").write_text('[night]\nmodels = ["popularity", "content"]\n')
    report_night.main(day=DAY)
    beside = Path(warehouse.root, "reports", f"day={DAY}.html")
    assert first_line(Page(beside.read_text())).startswith("RELEASED")
    out = place / "page.html"
    typed = CliRunner().invoke(app.app, ["report", "--out", str(out), "--samples", "1", "--ids"])
    assert typed.exit_code == 0, typed.output
    assert "released" in typed.output
    assert "u0" in Page(out.read_text()).text
    refused = CliRunner().invoke(app.app, ["report", "--samples", "1"])
    assert refused.exit_code != 0
    assert pages.forget(warehouse) == [str(DAY)]
    assert not beside.exists()
    assert recipe.current().night.models == list(SOURCES)
