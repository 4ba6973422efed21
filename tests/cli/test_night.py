"""Commands that run and plan nights, with Airflow replaced: reports, progress, exit statuses."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microrec.cli import local_airflow, night
from microrec.release import reader
from microrec.runner.exit_status import ExitStatus
from microrec.tables.arrow import Warehouse

DAY = "2026-01-05"
DATE = dt.date.fromisoformat(DAY)


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Replace Airflow: `failures` is how the night ends; the days and the keywords of the call are added."""
    calls: dict[str, Any] = {"failures": [], "days": []}

    def run(day: Any, *, stream: Any, **keywords: Any) -> list[str]:
        calls["days"].append(str(day))
        calls.update(stream=stream, **keywords)
        stream.write("> validate_events\n")
        return list(calls["failures"])

    monkeypatch.setattr(local_airflow, "run", run)
    monkeypatch.setattr(night, "_require_java", lambda: None)
    return calls


@pytest.fixture
def delivered(place: Path) -> list[str]:
    """Days on which viewings were delivered, the last one without a release."""
    days = [(DATE + dt.timedelta(days=back)).isoformat() for back in (-1, 0, 1)]
    for day in days:
        folder = place / "landing" / "raw_interactions" / f"day={day}"
        folder.mkdir(parents=True)
        (folder / "part-0.csv").write_text("user_id,video_id\n")
    return days


def test_night_as_json_prints_one_report_and_progress_on_standard_error(
    warehouse: Warehouse, airflow: dict[str, Any], typed: Callable[..., Any], delivered: list[str]
) -> None:
    assert DAY in delivered
    outcome = typed("night", "--day", DAY, "--json")
    assert outcome.status == ExitStatus.SUCCESS
    assert outcome.errors == "> validate_events\n"
    (report,) = outcome.rows
    assert list(report) == ["day", "release", "tables", "metrics", "list", "warehouse", "landing"]
    assert (report["day"], report["release"]) == (DAY, reader.latest().id)
    assert {pin["table"] for pin in report["tables"]} == set(reader.RESULTS)
    assert report["list"]["user_id"] == ":smile: [link=file:///etc]u[/link]"
    assert report["list"]["rows"][0].keys() == {"rank", "video_id", "score", "source", "reason"}
    assert report["warehouse"] == warehouse.root
    assert airflow["environment"]["MICROREC_WAREHOUSE"] == warehouse.root


def test_night_prints_titles_with_ids_literally(
    warehouse: Warehouse, airflow: dict[str, Any], typed: Callable[..., Any], delivered: list[str]
) -> None:
    assert DAY in delivered
    outcome = typed("night", "--day", DAY)
    assert airflow["days"] == [DAY]
    assert outcome.errors == ""
    assert outcome.output.startswith("> validate_events\n")
    assert "the head of user :smile: [link=file:///etc]u[/link]'s list" in outcome.output
    assert f"warehouse {warehouse.root}\n" in outcome.output


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_night_that_fails_ends_with_1_and_says_that_the_release_stands(
    options: list[str], airflow: dict[str, Any], typed: Callable[..., Any], delivered: list[str]
) -> None:
    airflow["failures"] = ["validate_events: refused day 2026-01-05: too few rows"]
    outcome = typed("night", "--from", DAY, "--to", delivered[-1], *options)
    assert outcome.status == ExitStatus.FAILURE
    assert airflow["days"] == [DAY], "the day after a failed one is not run"
    reason = "validate_events: refused day 2026-01-05: too few rows"
    failure = f"night {DAY}: FAILED; the previous release stands; {reason}"
    printed = outcome.errors if options else outcome.output
    assert printed.splitlines()[-1] == failure
    assert outcome.output == "" if options else outcome.errors == ""


def test_nights_of_several_days_run_in_order(
    warehouse: Warehouse, airflow: dict[str, Any], typed: Callable[..., Any], delivered: list[str]
) -> None:
    del warehouse
    outcome = typed("night", "--from", delivered[0], "--to", DAY, "--json")
    assert outcome.status == ExitStatus.SUCCESS
    assert airflow["days"] == delivered[:2] == [row["day"] for row in outcome.rows]
    outcome = typed("night", "--from", DAY, "--to", delivered[0])
    assert (outcome.status, len(airflow["days"])) == (ExitStatus.DATA_ERROR, 2)
    assert f"--from {DAY} is after --to {delivered[0]}" in outcome.errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--day", "2030-01-01"), "no raw_interactions of 2030-01-01; days there are {0} to {2}"),
        (
            ("--from", "2026-01-06", "--to", "2026-01-08"),
            "no raw_interactions of 2026-01-07, 2026-01-08; days",
        ),
        (
            ("--day", DAY, "--landing", "no/such/folder"),
            "no raw_interactions of 2026-01-05; it has none",
        ),
    ],
)
def test_night_of_a_day_that_nobody_delivered_is_refused_before_airflow_starts(
    words: tuple[str, ...],
    message: str,
    airflow: dict[str, Any],
    typed: Callable[..., Any],
    delivered: list[str],
) -> None:
    outcome = typed("night", *words)
    assert outcome.status == ExitStatus.DATA_ERROR
    assert message.format(*delivered) in " ".join(outcome.errors.split())
    assert airflow["days"] == []


def test_night_of_a_day_whose_files_were_tidied_away_runs_by_its_events(
    warehouse: Warehouse, airflow: dict[str, Any], typed: Callable[..., Any]
) -> None:
    warehouse.write_empty("events", day=DATE)
    assert typed("night", "--day", DAY).status == ExitStatus.SUCCESS
    assert airflow["days"] == [DAY]


def test_night_without_java_ends_with_1_before_anything_runs(
    typed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    outcome = typed("night", "--day", DAY)
    assert outcome.status == ExitStatus.FAILURE
    assert "Spark needs Java 17" in outcome.errors


def test_night_with_a_recipe_hands_it_to_the_jobs(
    warehouse: Warehouse,
    airflow: dict[str, Any],
    typed: Callable[..., Any],
    place: Path,
    delivered: list[str],
) -> None:
    del warehouse
    assert DAY in delivered
    (place / "mine.toml").write_text("[night]\nk = 7\n")
    assert typed("night", "--day", DAY, "--recipe", str(place / "mine.toml")).status == 0
    assert airflow["environment"]["MICROREC_RECIPE"] == str(place / "mine.toml")


@pytest.mark.parametrize(
    "words", [["night", "--day", DAY], ["plan", "--from", DAY, "--to", DAY], ["check-recipe"]]
)
def test_command_with_a_misspelt_recipe_ends_with_78_before_anything_runs(
    words: list[str],
    airflow: dict[str, Any],
    typed: Callable[..., Any],
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("MICROREC_RECIPE", "MICROREC_LANDING", "MICROREC_WAREHOUSE"):
        monkeypatch.setenv(name, str(place / "none"))  # restored after the test
    (place / "mine.toml").write_text("[nigth]\n[graphs.modality]\nkk = 3\n")
    outcome = typed(*words, "--recipe", str(place / "mine.toml"))
    assert outcome.status == ExitStatus.RECIPE_ERROR
    assert "did you mean [night]?" in outcome.output + outcome.errors
    assert "did you mean k?" in outcome.output + outcome.errors
    assert airflow["days"] == []


def test_check_recipe_as_json_has_a_row_a_finding(typed: Callable[..., Any], place: Path) -> None:
    (place / "mine.toml").write_text("[night]\nk = 0\n")
    outcome = typed("check-recipe", "--recipe", str(place / "mine.toml"), "--json")
    assert outcome.rows == [
        {
            "kind": "fault",
            "section": "night",
            "key": "k",
            "value": "0",
            "problem": "should be greater than 0",
        }
    ]
    (place / "mine.toml").write_text("[models.din]\ndim = 8\n")
    outcome = typed("check-recipe", "--recipe", str(place / "mine.toml"), "--json")
    assert (outcome.status, [row["kind"] for row in outcome.rows]) == (0, ["unused"])
    assert "nothing is wrong" in typed("check-recipe").output


def test_night_help_shows_where_paths_lead_that_are_left_out(typed: Callable[..., Any]) -> None:
    shown = " ".join(typed("night", "--help").output.replace("│", " ").split())
    assert "MICROREC_LANDING, else var/landing" in shown
    assert "MICROREC_WAREHOUSE, else var/warehouse" in shown
    assert "MICROREC_RECIPE, else microrec.toml" in shown


def test_headline_has_a_row_a_source_with_intervals() -> None:
    figure = {
        "name": "blend",
        "metric": "recall@20",
        "value": 0.1,
        "low": 0.05,
        "high": 0.2,
        "n": 7,
    }
    rows = night._headline(
        [figure, {**figure, "metric": "ndcg@20", "low": None}, {**figure, "name": "a"}]
    )
    blend = {
        "name": "blend",
        "users": 7,
        "recall@20": "0.1000 [0.0500, 0.2000]",
        "ndcg@20": "0.1000",
    }
    assert rows == [{"name": "a", "users": 7, "recall@20": "0.1000 [0.0500, 0.2000]"}, blend]


def test_plan_as_json_has_a_row_a_day_and_its_reasons(
    place: Path, typed: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    (place / "landing").mkdir()
    words = ["plan", "--from", "2026-01-04", "--to", "2026-01-05"]
    roots = ["--landing", str(place / "landing"), "--warehouse", str(place / "warehouse")]
    assert typed(*words, *roots, "--json").rows == [
        {"day": "2026-01-04", "plan": "make", "because": ["no release"]},
        {"day": "2026-01-05", "plan": "make", "because": ["no release"]},
    ]
    assert "no release" in typed(*words, *roots).output
