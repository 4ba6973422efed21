"""The first line of the report: what became of the night, and why."""

from types import SimpleNamespace
from typing import Any

import pytest

from microrec.report.verdict import verdict

RELEASED: Any = SimpleNamespace(status="released", reason=None, id="2026-01-07-abc")
PROMOTED: Any = SimpleNamespace(status="released", reason="a holiday", id="2026-01-07-abc")
WITHDRAWN: Any = SimpleNamespace(status="withdrawn", reason="wrong videos", id="2026-01-07-abc")


def gate(name: str, *, severity: str = "hold", status: str = "pass") -> dict[str, Any]:
    return {"gate": name, "severity": severity, "status": status, "detail": f"words of {name}"}


PASSED, FAILED = gate("champion"), gate("champion", status="fail")
WARNED = gate("hubs", severity="warn", status="fail")


@pytest.mark.parametrize(
    ("release", "gates", "dead", "word", "why"),
    [
        (RELEASED, [PASSED], [], "released", "2026-01-07-abc"),
        (RELEASED, [PASSED, WARNED], [], "released", "warnings: hubs"),
        (RELEASED, [PASSED], ["content"], "degraded", "no candidates of content"),
        (PROMOTED, [FAILED], [], "degraded", "in spite of champion (words of champion): a holiday"),
        (
            PROMOTED,
            [FAILED],
            ["content"],
            "degraded",
            "no candidates of content; released in spite",
        ),
        (
            None,
            [FAILED, PASSED],
            [],
            "held",
            "champion (words of champion); the last release stands",
        ),
        (RELEASED, [FAILED], [], "held", "the release of an earlier run stands"),
        (WITHDRAWN, [PASSED], [], "withdrawn", "wrong videos"),
        (None, [PASSED], [], "unfinished", "the last table it committed is users"),
    ],
)
def test_verdict_says_what_became_of_the_night(
    release: Any, gates: list[dict[str, Any]], dead: list[str], word: str, why: str
) -> None:
    said = verdict(release, gates, dead=dead, last_table="users")
    assert said.word == word
    assert why in said.why


def test_verdict_of_a_day_without_tables_says_that_nothing_was_committed() -> None:
    assert verdict(None, [], dead=[], last_table=None).why == "nothing was committed of this day"


def test_verdict_cuts_the_words_of_a_gate_and_keeps_them_in_a_line() -> None:
    long = FAILED | {"detail": "a\n" + "b" * 5000}
    said = verdict(None, [long], dead=[], last_table=None)
    assert len(said.why) < 400
    assert "\n" not in said.why
