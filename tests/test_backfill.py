"""Days in any order: each is made of no more than itself says, and what is made of the same is not made again.

In this process, one JVM; tests/ui shows the same through Airflow.
"""

import datetime as dt
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from microrec.cli import app
from microrec.config.settings import HOME, blas_threads, settings
from microrec.core import code_digest
from microrec.errors import GateHeld, MicrorecError
from microrec.landing import write
from microrec.pipeline import night_inputs
from microrec.pipeline.night import Night
from microrec.release import reader, rollback
from microrec.runner.exit_status import ExitStatus
from microrec.synth.world import Config, generate
from microrec.tables.arrow import Warehouse
from tests.worlds.nights import BEFORE_MODELS, call, fit_and_select, run_night

pytestmark = [pytest.mark.spark, pytest.mark.slow]

FIRST = dt.date(2026, 1, 1)
DAYS = [FIRST + dt.timedelta(days=number) for number in (3, 4)]
AFTER = FIRST + dt.timedelta(days=5)
FIGURES = ("metrics", "gate_results")
"""Result tables that compare a night with the day before, if that has a release."""
RECIPE = """
[night]
window_days = 4
k = 10
models = ["popularity", "video_neighbours"]

[candidates.hybrid]
nights = 3
least_nights = 1
least_positives = 20
least_in_leaf = 20
trees = 20
explained = 10

[evaluation.gate]
better_than_popularity = -1.0
worse_than_champion = 1.0
source_kept = 0.0
"""


class Place:
    """A landing zone, a warehouse and a recipe that jobs called from now on use."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root, self.zone, self.recipe = root, root / "landing", root / "recipe.toml"
        patch.setenv("MICROREC_LANDING", str(self.zone))
        patch.setenv("MICROREC_WAREHOUSE", str(root / "warehouse"))
        patch.setenv("MICROREC_RECIPE", str(self.recipe))
        settings.cache_clear()


@pytest.fixture(scope="module")
def forwards(tmp_path_factory: pytest.TempPathFactory, spark: object) -> Iterator[Path]:
    """Two days made one after the other."""
    root, patch = tmp_path_factory.mktemp("forwards"), pytest.MonkeyPatch()
    (root / "recipe.toml").write_text(RECIPE)
    world = generate(
        Config(users=80, videos=120, days=6, formats=("parquet",)), np.random.default_rng(2)
    )
    place = Place(root, patch)
    write.write_world(str(place.zone), world.parts)
    assert backfill(DAYS) == DAYS
    yield root
    patch.undo()
    settings.cache_clear()


@pytest.fixture
def made(forwards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A copy of it that a test may change."""
    shutil.copytree(forwards, tmp_path, dirs_exist_ok=True)
    yield Place(tmp_path, monkeypatch)
    settings.cache_clear()


def lists(day: dt.date) -> dict[str, str]:
    """Content of what a day publishes, but for the comparison with the day before."""
    pins = reader.of(day).tables
    return {name: pin.digest for name, pin in pins.items() if name not in FIGURES}


def planned(day: dt.date) -> bool:
    """Plan a night as the DAG does: whether there is something to do."""
    try:
        call("plan_night", day)
    except SystemExit as done:
        code = done.code
    else:
        return True
    assert code == ExitStatus.NOTHING_TO_DO
    return False


def backfill(days: list[dt.date]) -> list[dt.date]:
    """Make the days that are to be made, in this order."""
    made = []
    for day in days:
        if planned(day):
            run_night(day)
            made.append(day)
    return made


def at_once(days: list[dt.date]) -> None:
    """Make several days task by task, each task for one day after the other."""
    steps = ["plan_night", *BEFORE_MODELS, "trial", "evaluate_sources", "final"]
    steps += ["select_recommendations", "describe_trends", "describe_clips"]
    for step in [*steps, "check_recommendations", "publish_release"]:
        for day in days:
            if step in ("trial", "final"):
                fit_and_select(day, step)
            else:
                call(step, day)


def test_backfill_any_order_and_again_equals_forwards(made: Place) -> None:
    """The blend learns from the nights before: they must be there, but not have been made in their order."""
    warehouse = Warehouse.open()
    methods = [
        set(warehouse.read("blend_weights", day=day, fit="trial")["method"].to_pylist())
        for day in DAYS
    ]
    assert methods == [{"closed_form"}, {"learned"}]
    wanted, whole = {day: lists(day) for day in DAYS}, reader.latest()
    assert backfill(DAYS) == [], "nothing has changed"
    assert reader.latest() == whole
    shutil.rmtree(made.root / "warehouse")
    at_once(DAYS[::-1])
    assert reader.latest().day == DAYS[-1], "an earlier day never becomes the latest"
    assert lists(DAYS[0]) == wanted[DAYS[0]]
    assert lists(DAYS[-1]) != wanted[DAYS[-1]], "it had fewer teachers"
    first, (second,) = (news(day) for day in DAYS)
    assert first == []
    assert second.startswith("inputs unknown"), "its teacher came in its course"
    assert backfill(DAYS) == DAYS[1:], "only what would come out otherwise"
    assert {day: lists(day) for day in DAYS} == wanted
    assert backfill(DAYS[::-1]) == []


def news(day: dt.date) -> list[str]:
    """Why a day would be made."""
    night = Night.open(day)
    return night_inputs.stale_reasons(night, night_inputs.current_inputs(night))


def test_plan_each_change_of_a_night_is_named(made: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thing it is made of, one at a time; what comes after the day is none of them."""
    day = DAYS[1]
    assert not planned(day)
    for file in sorted(made.zone.rglob(f"day={AFTER}/*")):
        file.write_bytes(file.read_bytes())  # delivered again, but a day later
    made.recipe.write_text("# a remark\n" + made.recipe.read_text())
    assert not planned(day)
    for table, reasons in (
        ("raw_interactions", ["events"]),
        ("raw_videos", ["events", "catalogue"]),
        ("raw_video_features", ["catalogue"]),
    ):
        (file, *_) = sorted((made.zone / table / f"day={day}").iterdir())
        before = file.stat()
        file.write_bytes(file.read_bytes())
        where = rf"{table}\[{day}\] {file.name} \({before.st_size} bytes\) was rewritten"
        after = "after the night had read its day"
        for reason, told in zip(reasons, news(day), strict=True):
            assert re.fullmatch(rf"{reason} changed: {where} {after}", told)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert news(day) == []
    for old, new in (("k = 10", "k = 9"), ("trees = 20", "trees = 21")):
        made.recipe.write_text(made.recipe.read_text().replace(old, new))
        assert news(day) == ["recipe changed"]
        made.recipe.write_text(made.recipe.read_text().replace(new, old))
    monkeypatch.setenv("MICROREC_MODELS", '["popularity"]')
    settings.cache_clear()
    assert news(day) == ["recipe changed"]
    monkeypatch.delenv("MICROREC_MODELS")
    settings.cache_clear()
    monkeypatch.setattr(code_digest, "total_digest", lambda *_: "another")
    call("plan_night", DAYS[0])
    assert "taught_by changed" in news(day), "by a night that is made of something else"
    call("plan_night", day)
    assert news(day) == ["begun again since its release"]


def test_stale_reasons_other_software_or_machine_names_it(
    made: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    day = DAYS[1]
    assert news(day) == []
    with monkeypatch.context() as other_packages:
        installed = code_digest.package_versions()
        other_packages.setattr(
            code_digest, "package_versions", lambda: {**installed, "lightgbm": "99.0"}
        )
        was = installed["lightgbm"]
        assert news(day) == [f"packages changed: lightgbm {was} -> 99.0"]
    with monkeypatch.context() as other_machine:
        here = code_digest.processor()
        threads = f"blas_threads={blas_threads()}"
        other_machine.setattr(code_digest, "processor", lambda: "aarch64 sve2")
        assert news(day) == [f"processor changed: {here} {threads} -> aarch64 sve2 {threads}"]
    with monkeypatch.context() as other_environment:
        other_environment.setenv("OMP_NUM_THREADS", str(blas_threads() + 1))
        (reason,) = news(day)
        assert reason.endswith(f" {threads} -> {here} blas_threads={blas_threads()}")
    parts = code_digest.code_digests(HOME, settings().schemas)
    monkeypatch.setattr(code_digest, "total_digest", lambda *_: "another")
    changed = {**parts, "microrec.candidates": "another"}
    monkeypatch.setattr(code_digest, "code_digests", lambda *_: changed)
    assert news(day) == ["code changed: microrec.candidates"]


def test_publish_release_inputs_changed_meanwhile_are_not_recorded(made: Place) -> None:
    """A recipe that is mended before the last tasks are cleared."""
    day = DAYS[0]
    call("plan_night", day, force=True)
    whole = made.recipe.read_text()
    made.recipe.write_text(whole.replace("explained = 10", "explained = 11"))
    call("publish_release", day)
    assert reader.of(day).inputs is None
    made.recipe.write_text(whole)
    assert planned(day)
    call("publish_release", day)
    assert not planned(day)


def test_plan_withdrawn_night_is_made_again(made: Place) -> None:
    rollback.to(str(DAYS[0]), reason="one author everywhere")
    with pytest.raises(GateHeld, match=r"withdrawn: one author everywhere.*force"):
        call("plan_night", DAYS[1])
    call("plan_night", DAYS[1], force=True)


def test_night_before_any_data_is_refused(made: Place) -> None:
    before, day = reader.every(), FIRST - dt.timedelta(days=30)
    assert planned(day)
    with pytest.raises(MicrorecError, match=rf"raw_interactions\[{day}\]: nothing arrived"):
        call("validate_events", day)
    assert reader.every() == before


def test_plan_dry_run_names_reasons_and_writes_nothing(made: Place) -> None:
    versions = {name: Warehouse.open().partitions(name) for name in ("nights", "releases")}
    (file, *_) = sorted((made.zone / "raw_interactions" / f"day={DAYS[1]}").iterdir())
    file.write_bytes(file.read_bytes())
    words = ["plan", "--from", str(DAYS[0]), "--to", str(AFTER)]
    places = ["--landing", str(made.zone), "--warehouse", str(made.root / "warehouse")]
    said = CliRunner().invoke(app.app, [*words, *places])
    assert said.exit_code == 0
    lines = CliRunner().invoke(app.app, [*words, *places, "--json"]).output.splitlines()
    first, second, third = map(json.loads, lines)
    assert (first["plan"], first["because"]) == ("skip", [])
    changed = f"events changed: raw_interactions[{DAYS[1]}] {file.name} "
    assert second["because"][0].startswith(changed)
    assert (third["plan"], third["because"]) == ("make", ["no release"])
    assert {name: Warehouse.open().partitions(name) for name in versions} == versions
