"""One story: people opt out, come back, are erased, misspell and lie about the clock, while nights go on as ever."""

import datetime as dt
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from microrec.config.settings import settings
from microrec.landing import write
from microrec.pipeline.night import Night
from microrec.privacy.proof import Scan
from microrec.privacy.quotes import Ids
from microrec.release import explanation, reader, retention, rollback
from microrec.synth.world import Config, generate
from microrec.tables.arrow import Warehouse
from tests.worlds.nights import call, run_night

pytestmark = [pytest.mark.spark, pytest.mark.slow]

FIRST = dt.date(2026, 1, 1)
DAYS = [FIRST + dt.timedelta(days=number) for number in range(7)]
BEFORE, AFTER, NEXT = DAYS[4:]
NUMBER = "17"
"""Id of a person whose id is a number; the world has none."""
RESET, NEWCOMER = "reset", "newcomer"
"""Two who watch the same on the second night; before it the first has watched, and reset, and the second is unknown."""
RECIPE = """
[night]
window_days = 5
k = 10
models = ["popularity", "content", "video_neighbours"]

[privacy.erasure]
grace_seconds = 0
abandoned_hours = 0

[candidates.exploration]
places = 1
every = 5
"""


class People(NamedTuple):
    """Who does what; all watch something on each of the last three days."""

    out: str
    """Opts out, by a clock that is far ahead."""
    back: str
    """Opts out on the second night, and in again on the third."""
    gone: str
    """Asks to be erased, in other words and with blanks around the id; a cut line quotes the id too."""
    unclear: str
    """Asks for something nobody can read."""
    shy: str
    """Wants no profiling on the second night, and blocks the first video of that list; takes it back on the third."""
    quiet: str
    """Wants to teach nobody on the second night, and takes it back on the third."""


class Story(NamedTuple):
    """The landing zone and who is who."""

    place: Path
    people: People
    others: set[str]
    """Everybody else who has a list on the first night."""

    @property
    def erased(self) -> list[str]:
        """Who has asked to be erased."""
        return [self.people.gone, NUMBER]

    @property
    def left(self) -> set[str]:
        """Who has no list from the second night on."""
        return {*self.people, NUMBER} - {self.people.shy, self.people.quiet}


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, spark: object) -> Iterator[Story]:
    """A world without requests, and its first night."""
    place = tmp_path_factory.mktemp("people")
    patch = pytest.MonkeyPatch()
    (place / "recipe.toml").write_text(RECIPE)
    patch.setenv("MICROREC_WAREHOUSE", str(place / "warehouse"))
    patch.setenv("MICROREC_LANDING", str(place / "landing"))
    patch.setenv("MICROREC_RECIPE", str(place / "recipe.toml"))
    patch.setenv("MICROREC_PROMOTE", "a story of people, whatever the lists are worth")
    settings.cache_clear()
    config = Config(users=120, videos=200, days=len(DAYS), first_day=FIRST, formats=("parquet",))
    world = generate(config, np.random.default_rng(5))
    parts = (part for part in world.parts if part.table != "raw_privacy_requests")
    write.write_world(str(place / "landing"), parts)
    regulars = _regulars(place)
    people = People(*regulars[:6])
    for day in DAYS[2:]:
        lines = [viewing(NUMBER, day, video) for video in ("v000001", "v000002", "v000003")]
        cut = json.dumps(viewing(people.gone, day, "v000001"))[:60]
        if day < BEFORE:
            lines += [viewing(RESET, day, video) for video in ("v000004", "v000005", "v000006")]
        if day == AFTER:
            same = [(user, video) for user in (RESET, NEWCOMER) for video in ("v000007", "v000008")]
            lines += [viewing(user, day, video) for user, video in same]
        deliver(place, "raw_interactions", day, *lines, cut)
    wish(place, BEFORE, (RESET, "reset", ""))
    run_night(BEFORE)
    listed = set(reader.of(BEFORE).read("recommendations")["user_id"].to_pylist())
    assert {*people, NUMBER} < listed
    yield Story(place, people, listed - {*people, NUMBER})
    patch.undo()
    settings.cache_clear()


def _regulars(place: Path) -> list[str]:
    """Users who have watched something on each of the last three days."""
    files = place.glob("landing/raw_interactions/day=*/*.parquet")
    rows = pd.concat([pd.read_parquet(file).assign(day=file.parent.name) for file in files])
    rows = rows[rows["day"].isin([f"day={day}" for day in (BEFORE, AFTER, NEXT)])]
    days = rows.dropna(subset=["user_id", "started_at"]).groupby("user_id")["day"].nunique()
    return sorted(days.index[days == 3])


def viewing(user: str, day: dt.date, video: str, hour: int = 12) -> dict[str, Any]:
    return {
        "user_id": user, "video_id": video, "started_at": f"{day}T{hour}:00:00Z", "watch_ms": 20_000, "liked": 1,
    }  # fmt: skip


def deliver(
    place: Path, table: str, day: dt.date, *lines: dict[str, Any] | str, name: str = "more"
) -> None:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    write.write_lines(str(place / "landing"), table, day, texts, kind="jsonl", name=name)


def ask(place: Path, day: dt.date, *requests: tuple[str, str, str]) -> None:
    """Deliver requests: user, kind and instant as they are written."""
    names = ("user_id", "kind", "requested_at")
    lines = [dict(zip(names, request, strict=True)) for request in requests]
    deliver(place, "raw_privacy_requests", day, *lines, name="asked")


def wish(place: Path, day: dt.date, *wishes: tuple[str, str, str]) -> None:
    """Deliver wishes: user, kind and value."""
    at = {"requested_at": f"{day}T12:00:00Z"}
    lines = [{"user_id": user, "kind": kind, "value": value, **at} for user, kind, value in wishes]
    deliver(place, "raw_preferences", day, *lines, name="wished")


def tables_with(user: str, day: dt.date) -> set[str]:
    """Tables whose rows of a day, or of an arrival day, name a user."""
    warehouse = Warehouse.open()
    named = set()
    for path in settings().schemas.glob("*.yaml"):
        table = path.stem
        if table.startswith("raw_") or not warehouse.partitions(table):
            continue
        names = warehouse.table(table).contract.schema.names
        if "user_id" in names:
            rows = warehouse.read(table, where={"user_id": user})
            column = "arrived_on" if "arrived_on" in names else "day"
            named |= {table} if day in rows[column].to_pylist() else set()
    return named


def hits(story: Story) -> dict[str, int]:
    """Where the warehouse still has those who were erased."""
    scan = Scan(Ids(story.erased), settings().schemas, authors_are_users=False)
    scan.folder(story.place / "warehouse")
    return dict(scan.hits)


def listed(day: dt.date) -> set[str]:
    return set(reader.of(day).read("recommendations")["user_id"].to_pylist())


def users(day: dt.date) -> set[str]:
    return set(Warehouse.open().read("users", day=day)["user_id"].to_pylist())


def rows_of(day: dt.date, people: set[str]) -> pd.DataFrame:
    """Rows of the release of a day that are about some people."""
    rows = reader.of(day).to_pandas("recommendations")
    kept = rows[rows["user_id"].isin(people)].sort_values(["user_id", "rank"])
    return kept.reset_index(drop=True)


def test_people_ask_and_the_next_night_follows(story: Story) -> None:
    """The lists of others in the release before stay what they were."""
    people, place = story.people, story.place
    mine = rows_of(BEFORE, story.others)
    assert hits(story)
    noon = f"{AFTER}T12:00:00Z"
    ask(
        place,
        AFTER,
        (people.out, "opt-out", "2099-01-01T00:00:00Z"),
        (people.back, "optout", f"{AFTER}T00:00:00Z"),
        (f"  {people.gone} ", " Delete", noon),
        (NUMBER, "erase", noon),
        (people.unclear, "hide me", noon),
    )
    top = reader.of(BEFORE).to_pandas("fallback_recommendations").set_index(["segment", "rank"])
    blocked = top.loc[("__global__", 1), "video_id"]
    wish(
        place,
        AFTER,
        (people.shy, "no-profiling", ""),
        (people.shy, "block_video", blocked),
        (people.quiet, "no teaching", ""),
    )
    call("erase", AFTER)
    assert hits(story) == {}
    reader.of(BEFORE).verify()
    run_night(AFTER)
    assert hits(story) == {}
    pd.testing.assert_frame_equal(rows_of(BEFORE, story.others), mine)
    everybody = story.left
    for day in (BEFORE, AFTER):
        assert not everybody & listed(day)
        assert story.others <= listed(day)
    assert not everybody & users(AFTER)
    night = Night.open(AFTER)
    kinds = {row["user_id"]: row["kind"] for row in night.suppressed().to_pylist()}
    assert kinds == dict.fromkeys([people.out, people.back, people.unclear], "opt_out")
    stored = Warehouse.open().read("events", arrived_on=AFTER)["user_id"].to_pylist()
    assert people.back not in stored, "what was watched after the opt-out is stored nowhere"
    assert Warehouse.open().read("erasures").num_rows == 2
    _reset_has_the_lists_of_a_new_one()
    _shy_has_the_list_of_everybody(people.shy, blocked)
    _quiet_has_a_list_of_their_own(people.quiet)


def _reset_has_the_lists_of_a_new_one() -> None:
    """What was watched before the reset speaks for nothing; new videos are drawn for each."""
    warehouse = Warehouse.open()
    assert not {RESET, NEWCOMER} & users(BEFORE)
    index = warehouse.read("users", day=AFTER).to_pandas().set_index("user_id")["user_idx"]
    n_rows = 0
    for source in ("popularity", "content", "video_neighbours"):
        rows = warehouse.read("candidates", day=AFTER, fit="final", source=source).to_pandas()
        of_reset, of_newcomer = (
            rows[rows["user_idx"] == index[user]][["rank", "video_idx", "score"]]
            .to_numpy()
            .tolist()
            for user in (RESET, NEWCOMER)
        )
        assert of_reset == of_newcomer, source
        n_rows += len(of_reset)
    assert n_rows
    lists = [rows_of(AFTER, {user}) for user in (RESET, NEWCOMER)]
    kept = [of[of["source"] != "exploration"]["video_id"].tolist()[:9] for of in lists]
    assert kept[0] == kept[1]


def _quiet_has_a_list_of_their_own(quiet: str) -> None:
    """Made of what they watched, which stands in no table that anything is learned from."""
    mine = rows_of(AFTER, {quiet})
    assert len(mine) == 10
    assert "content" in set(mine["source"])
    holders = {"events", "daily_watches", "preferences", "recommendations", "private_users"}
    assert tables_with(quiet, AFTER) == holders
    warehouse = Warehouse.open()
    names = warehouse.read("video_nodes", day=AFTER).to_pandas().set_index("video_idx")["video_id"]
    seen = names[warehouse.read("private_edges", day=AFTER)["video_idx"].to_pylist()]
    assert len(seen)
    assert not set(seen) & set(mine["video_id"])
    explained = explanation.explain(reader.of(AFTER), quiet, 1)
    assert explained.sentences[-1] == explanation.TEACHES_NOBODY


def _shy_has_the_list_of_everybody(shy: str, blocked: str) -> None:
    """What they watch is stored, and neither a graph nor anything made of one has them."""
    shown = reader.of(AFTER).to_pandas("fallback_recommendations")
    everyones = shown[shown["segment"] == "__global__"].sort_values("rank")["video_id"].tolist()
    mine = rows_of(AFTER, {shy})
    allowed = [video for video in everyones if video != blocked]
    assert mine["video_id"].tolist()[: len(allowed)] == allowed
    assert (len(mine), set(mine["source"])) == (10, {"no_profiling"})
    assert rows_of(BEFORE, {shy}).empty, "the list of the night before was made with profiling"
    holders = {"events", "daily_watches", "preferences", "recommendations"}
    assert tables_with(shy, BEFORE) >= {"events", "daily_watches", "users", "recommendations"}
    assert tables_with(shy, AFTER) == holders
    explained = explanation.explain(reader.of(AFTER), shy, 1)
    assert explained.sentences[-1] == explanation.UNPROFILED


def test_people_stay_away_when_their_requests_have_gone(story: Story) -> None:
    """Neither a backfill nor a rollback nor a vacuum brings anybody back."""
    people = story.left
    shutil.rmtree(story.place / "landing" / "raw_privacy_requests")
    call("erase", BEFORE)
    run_night(BEFORE)
    assert not people & users(BEFORE)
    assert not people & listed(BEFORE)
    assert hits(story) == {}
    rollback.to(str(BEFORE), reason="the story goes back a night")
    assert reader.latest().day == BEFORE
    assert not people & listed(BEFORE)
    now = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=5)
    retention.vacuum(Warehouse.open(), hours=0, keep=30, now=now)
    reader.of(BEFORE).verify()
    assert hits(story) == {}


def test_people_come_back_as_they_wish(story: Story) -> None:
    """Who opts in has the history of before, and nothing of between; who was erased begins as a new person."""
    people, place = story.people, story.place
    back, number = (
        (people.back, "opt_in", f"{NEXT}T00:00:00Z"),
        (NUMBER, "opt_in", f"{NEXT}T06:00:00Z"),
    )
    ask(place, NEXT, back, number)
    wish(place, NEXT, (people.shy, "profiling", ""), (people.quiet, "teaching", ""))
    call("erase", NEXT)
    call("validate_events", NEXT)
    call("build_watch_graph", NEXT)
    warehouse = Warehouse.open()
    assert {people.back, people.shy, people.quiet} < users(NEXT)
    assert not warehouse.read("private_users", day=NEXT).num_rows
    assert not {people.out, people.gone, people.unclear} & users(NEXT)
    events = warehouse.read("events").to_pandas()
    edges = warehouse.read("watch_edges", day=NEXT).to_pandas()
    numbers = warehouse.read("users", day=NEXT).to_pandas().set_index("user_id")["user_idx"]
    of_shy = edges.loc[edges["user_idx"] == numbers[people.shy], "last_at"].dt.date
    assert {AFTER, NEXT} <= set(of_shy), "all counts again"
    of_back = set(events.loc[events["user_id"] == people.back, "day"])
    assert {BEFORE, NEXT} <= of_back
    assert AFTER not in of_back
    of_number = events.loc[events["user_id"] == NUMBER, "started_at"]
    assert [str(at) for at in of_number.unique()] == [f"{NEXT} 12:00:00+00:00"]
    assert people.gone not in set(events["user_id"])
