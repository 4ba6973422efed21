"""An operator backfills while the scheduled night runs: from the dialog of Airflow's pages, by REST and by command;
with a login, on Postgres."""

import datetime as dt
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from microrec.config.settings import HOME
from microrec.landing import write
from microrec.release import reader
from microrec.synth.world import Config, generate
from microrec.tables.arrow import Warehouse
from tests.ui.airflow_servers import NIGHTLY, PATIENCE, USER, Airflow

pytestmark = [pytest.mark.ui]

SHOTS = Path(os.environ.get("MICROREC_UI_SCREENSHOTS", HOME / "var" / "ui-screenshots"))
TODAY = dt.datetime.now(dt.UTC).date()
SCHEDULED = str(TODAY - dt.timedelta(days=1))
"""Un-pausing starts the night of yesterday: it runs beside the backfill."""
DAYS = [str(TODAY - dt.timedelta(days=ago)) for ago in (4, 3, 2)]
FIRST, LAST = DAYS[0], DAYS[-1]
WORLD = 6
"""Days with rows: two before the first of these, the last is yesterday."""
FIGURES = {"metrics", "gate_results"}
"""Result tables that compare a night with the day before, if that has a release."""
ALL_GREEN = dict.fromkeys(DAYS, "success")
BEFORE_ANY, AFTER_ALL = (str(TODAY + dt.timedelta(days=days)) for days in (-WORLD - 3, 30))

RECIPE = f"""
[night]
window_days = {WORLD} # no day leaves it: what was watched before the window is known of days that a night was made of
k = 10
models = ["popularity", "video_neighbours"]
grace_hours = 0

# A night beside the backfill had fewer nights before it than one after: what they teach, show and remember stays out.
[candidates.hybrid]
nights = 0

[evaluation.gate]
pooled_nights = 1
better_than_popularity = -1.0 # a world so small proves nothing
"""


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the tables of a planted world will be; landing zone and recipe lie beside it."""
    place = tmp_path_factory.mktemp("backfill")
    (place / "recipe.toml").write_text(RECIPE)
    size = Config(
        users=150,
        videos=150,
        days=WORLD,
        first_day=TODAY - dt.timedelta(days=WORLD),
        formats=("parquet",),
    )
    world = generate(size, np.random.default_rng(5))
    write.write_world(str(place / "landing"), world.parts)
    return str(place / "warehouse")


@pytest.fixture(scope="module")
def airflow(warehouse: str) -> Iterator[Airflow]:
    place = Path(warehouse).parent
    settings = {
        "MICROREC_RECIPE": str(place / "recipe.toml"),
        "MICROREC_LANDING": str(place / "landing"),
        "MICROREC_WAREHOUSE": warehouse,
    }
    with Airflow(place, settings, light=False) as started:
        yield started


@pytest.fixture(scope="module")
def page(airflow: Airflow) -> Iterator[Any]:
    """A page of headless Chromium, logged in."""
    from playwright.sync_api import sync_playwright

    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        opened = browser.new_page(viewport={"width": 1400, "height": 1100})
        opened.set_default_timeout(90_000)
        opened.goto(airflow.url)
        opened.fill("input[name=username]", USER)
        opened.fill("input[name=password]", airflow.password())
        opened.click("button[type=submit]")
        opened.get_by_role("button", name="Browse").wait_for()
        yield opened
        browser.close()


def fill_in(page: Any) -> None:
    """The dialog, from the DAG's page to what it says it will do."""
    page.get_by_test_id("trigger-dag-button").click()
    choose(page, "backfill")
    for name, day in (("From", FIRST), ("To", LAST)):
        page.get_by_text("Select date and time").first.click()
        page.get_by_role("textbox", name=name, exact=True).fill(day.replace("-", "/"))
        time = page.get_by_placeholder("HH:mm").locator("visible=true").last
        time.fill("00:00")
        time.press("Enter")
    choose(page, "none")
    page.get_by_text(f"{len(DAYS)} runs will be triggered.").wait_for()


def choose(page: Any, value: str) -> None:
    radio = page.locator(f"input[type=radio][value={value}]")
    radio.locator("xpath=ancestor::label").click()


def contents(warehouse: str) -> set[tuple[str, str, str]]:
    """Day, table and digest of every result table of every release; of figures the rows, to see which differ.

    Not the figures of the scheduled night: the day before it had no release yet when it ran.
    """
    opened, found = Warehouse.open(warehouse), set()
    for day in map(str, reader.days(warehouse)):
        for table in reader.RESULTS:
            if table not in FIGURES:
                found.add((day, table, opened.digest(table, day=day)))
            elif day != SCHEDULED:
                rows = opened.read(table, day=day).to_pylist()
                found |= {(day, table, str(row)) for row in rows}
    return found


def versions(warehouse: str) -> dict[str, int]:
    """Of the recommendations each day's release pins: more, if they were written again."""
    releases = reader.every(warehouse)
    return {str(one.day): one.tables["recommendations"].version for one in releases}


def states(runs: dict[str, Any]) -> dict[str, str]:
    return {day: run["state"] for day, run in runs.items()}


@pytest.fixture(scope="module")
def backfill(airflow: Airflow, page: Any, warehouse: str) -> dict[str, Any]:
    """Three days from the dialog, which also un-pauses the DAG: the request, the runs, what was published."""
    page.goto(f"{airflow.url}/dags/nightly")
    fill_in(page)
    page.screenshot(path=SHOTS / "1-dialog.png")
    with page.expect_response(f"{airflow.url}/api/v2/backfills") as asked:
        page.get_by_role("button", name="Run Backfill").click()
    assert asked.value.ok, asked.value.text()
    page.goto("about:blank")  # it would go on asking for news
    runs = airflow.backfilled(3 * PATIENCE)
    (beside,) = (name for name in airflow.runs() if name.startswith("scheduled__"))
    airflow.ended(beside)
    return {
        "asked": asked.value.request.post_data_json,
        "runs": runs,
        "beside": airflow.runs()[beside],
        "contents": contents(warehouse),
        "told": airflow.announced(),
    }


def test_login_without_password_is_refused(airflow: Airflow) -> None:
    assert httpx.get(f"{airflow.url}/api/v2/dags").status_code == 401
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        airflow.log_in("not the password")
    assert airflow.api.get("/api/v2/dags").status_code == 200


def rehearsed(airflow: Airflow, behaviour: str) -> list[str]:
    """Days a backfill would run, by the dry run."""
    asked = {
        "dag_id": "nightly",
        "from_date": f"{FIRST}T00:00:00Z",
        "to_date": f"{LAST}T00:00:00Z",
        "reprocess_behavior": behaviour,
    }
    answer = airflow.api.post("/api/v2/backfills/dry_run", json=asked).raise_for_status()
    return [one["logical_date"][:10] for one in answer.json()["backfills"]]


def test_backfill_dry_run_names_three_days_and_runs_none(airflow: Airflow) -> None:
    assert rehearsed(airflow, "none") == DAYS
    assert airflow.runs() == {}


def test_backfill_three_days_give_three_releases(
    airflow: Airflow, backfill: dict[str, Any], warehouse: str
) -> None:
    runs = backfill["runs"]
    assert states(runs) == ALL_GREEN, airflow.story()
    for day in DAYS:
        release = reader.of(dt.date.fromisoformat(day), warehouse)
        release.verify()
        assert release.run_id == runs[day]["dag_run_id"]


def test_backfill_days_run_in_order(backfill: dict[str, Any]) -> None:
    assert backfill["asked"]["max_active_runs"] == 1
    first, second, third = (backfill["runs"][day] for day in DAYS)
    assert first["end_date"] <= second["start_date"]
    assert second["end_date"] <= third["start_date"]


def test_scheduled_night_beside_the_backfill_is_the_latest_release(
    airflow: Airflow, backfill: dict[str, Any], warehouse: str
) -> None:
    night, runs = backfill["beside"], backfill["runs"]
    assert night["state"] == "success", airflow.story()
    assert night["logical_date"][:10] == SCHEDULED
    assert night["start_date"] < runs[LAST]["end_date"]
    assert runs[FIRST]["start_date"] < night["end_date"]
    assert [str(day) for day in reader.days(warehouse)] == [*DAYS, SCHEDULED]
    latest = reader.latest(warehouse)
    latest.verify()
    assert str(latest.day) == SCHEDULED
    assert latest.run_id == night["dag_run_id"]


def test_consumers_are_woken_only_when_the_latest_moves(
    backfill: dict[str, Any], warehouse: str
) -> None:
    releases = {str(one.day): one.id for one in reader.every(warehouse)}
    told = [one["day"] for one in backfill["told"]]
    assert told == sorted(set(told)), "never back, never twice"
    assert told[-1] == SCHEDULED
    assert [one["release"] for one in backfill["told"]] == [releases[day] for day in told]


def test_pages_show_green_runs_and_the_runbook(
    airflow: Airflow, page: Any, backfill: dict[str, Any]
) -> None:
    page.goto(f"{airflow.url}/dags/nightly/runs?run_type=backfill")
    page.get_by_role("row").filter(has_text="backfill__").nth(len(DAYS) - 1).wait_for()
    rows = page.get_by_role("row").filter(has_text="backfill__").all_inner_texts()
    assert len(rows) == len(DAYS)
    assert all("Success" in row for row in rows), rows
    page.screenshot(path=SHOTS / "2-runs.png")
    page.get_by_test_id("markdown-button").click()
    page.get_by_role("dialog").get_by_text("When it fails.").wait_for()
    page.screenshot(path=SHOTS / "3-doc.png")


def by_rest(airflow: Airflow) -> list[str]:
    """The last day first."""
    airflow.backfill(FIRST, LAST, reprocess_behavior="completed", run_backwards=True)
    return DAYS[::-1]


def by_command(airflow: Airflow) -> list[str]:
    airflow.wait(airflow.idle, "the backfill before is closed")
    range_ = ("--from-date", FIRST, "--to-date", LAST, "--max-active-runs", "1")
    again = ("--reprocess-behavior", "completed")
    airflow.command("backfill", "create", "--dag-id", "nightly", *range_, *again)
    return DAYS


def ran_again(airflow: Airflow, before: dict[str, Any]) -> list[str]:
    """Wait for the backfill: the days whose runs it began again, in their turn; all must be green."""
    airflow.backfilled(3 * PATIENCE)
    after = airflow.by_day()
    assert states(after) == ALL_GREEN | {SCHEDULED: "success"}, airflow.story()
    ran = [day for day in after if after[day]["start_date"] > before[day]["end_date"]]
    return sorted(ran, key=lambda day: str(after[day]["start_date"]))


@pytest.mark.parametrize("ask", [by_rest, by_command])
def test_backfill_repeated_publishes_the_same_rows_and_wakes_nobody(
    airflow: Airflow, backfill: dict[str, Any], warehouse: str, ask: Any
) -> None:
    before = airflow.by_day()
    assert rehearsed(airflow, "none") == rehearsed(airflow, "failed") == []
    assert rehearsed(airflow, "completed") == DAYS
    asked = ask(airflow)
    assert ran_again(airflow, before) == asked
    assert contents(warehouse) ^ backfill["contents"] == set()
    for release in reader.every(warehouse):
        release.verify()
    assert str(reader.latest(warehouse).day) == SCHEDULED
    assert airflow.announced() == backfill["told"]


def test_scheduled_night_forced_alone_equals_the_one_beside_the_backfill(
    airflow: Airflow, backfill: dict[str, Any], warehouse: str
) -> None:
    before, version, told = airflow.by_day(), versions(warehouse), backfill["told"]
    more = {"reprocess_behavior": "completed", "dag_run_conf": {"force": True}}
    airflow.backfill(SCHEDULED, SCHEDULED, **more)
    assert ran_again(airflow, before) == [SCHEDULED]
    assert versions(warehouse)[SCHEDULED] > version[SCHEDULED]
    assert contents(warehouse) ^ backfill["contents"] == set()
    latest = reader.latest(warehouse)
    latest.verify()
    if latest.id != told[-1]["release"]:  # its figures are now held against the day before
        told = [*told, {"day": SCHEDULED, "release": latest.id}]
    assert airflow.announced() == told


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({}, "names no day: give the parameter `day` (YYYY-MM-DD), or use Backfill"),
        ({"day": AFTER_ALL}, f"day {AFTER_ALL} has not ended"),
        ({"day": BEFORE_ANY}, f"refused day {BEFORE_ANY}"),
    ],
)
def test_manual_run_without_day_or_rows_is_refused(
    airflow: Airflow,
    backfill: dict[str, Any],
    warehouse: str,
    conf: dict[str, str],
    message: str,
) -> None:
    told = airflow.announced()
    run = airflow.trigger(conf)
    assert airflow.ended(run) == "failed"
    (said,) = airflow.failures(run).values()
    assert message in said
    assert contents(warehouse) ^ backfill["contents"] == set()
    assert airflow.announced() == told


def test_manual_run_of_an_invalid_day_is_refused_before_it_starts(
    airflow: Airflow, backfill: dict[str, Any]
) -> None:
    runs = airflow.runs()
    answer = airflow.api.post(
        f"{NIGHTLY}/dagRuns", json={"logical_date": None, "conf": {"day": "soon"}}
    )
    assert answer.status_code == 400
    assert "date" in answer.text
    assert airflow.runs().keys() == runs.keys()
