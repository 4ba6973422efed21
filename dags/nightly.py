"""# nightly: raw logs in, a release out.

**What it makes.** For the UTC day D: validated events, the graphs of the window that ends at D, trained models,
candidates, recommendations, and one row in `releases` that pins the version of every result table.

**Who reads it.** Teams that serve recommendations follow the latest row of `releases`; nobody else's rows count.

| task | reads | writes | if it fails |
|---|---|---|---|
| wait_for_late_rows | the clock | | a scheduled run waits `grace_hours` of the recipe after its day has ended; others do not |
| resolve_day | the run | | a manual run named no day: trigger it again with `day`, or use Backfill |
| plan_night | names of landing files, nights, releases | nights | nothing changed since the day's release: all that follows is skipped, unless the run says `force` |
| validate_events | landing zone | events, rejected_events, videos, video_features, clip_features, suppressed_users, metrics | the message names the table, day and file; deliver it again and clear the task |
| build_watch_graph | events, videos | users, video_nodes, watch_edges, clip_edges | |
| build_modality_graph | video_features | modality_edges | |
| build_user_graph | watch_edges | user_edges | |
| build_sequences | events, user_edges | exposures, sequences | no rows where no model of the recipe reads them |
| trial.train_model | the graphs without day D | models | |
| trial.select_candidates | models | candidates | |
| trial.rank_candidates | candidates, models | candidates | skipped where the recipe has no rankers |
| trial.blend_candidates | candidates, and earlier nights' with what came of them | models, candidates, blend_weights | without enough earlier nights it writes no candidates and the closed form stands |
| evaluate_sources | candidates, day D as the truth | metrics, gate_results | a gate holds the night: the message says which and why |
| final.train_model, final.select_candidates, final.rank_candidates, final.blend_candidates | the graphs with day D | models, candidates, blend_weights | |
| select_recommendations | candidates | recommendations, fallback_recommendations, rewatch_recommendations | |
| check_recommendations | recommendations, and all they were made of | gate_results | a list is not what brute force makes of the stored artefacts: the message names users and rows; clear select_candidates (fit final) and what follows |
| describe_trends | models, sequences, videos | user_trends | no rows where the recipe has no multi_trend |
| describe_clips | models, clip_edges, video_nodes | clip_interest, exit_points | no rows where the recipe has no clip_interest |
| publish_release | the result tables | gate_results, metrics, releases | a gate holds the night, or the same rows were withdrawn |
| announce_release | releases | the asset microrec://releases | skipped where the latest release did not move: no consumer is woken |

**When it fails.** Nothing half-done is visible: each task commits whole days or nothing, and until publish_release is
green, readers stay on the previous release. Every task may be cleared and run again; a day run twice has the same
rows. Tasks whose data is at fault fail at once; others are tried again twice, later each time. The task's last lines,
and `MICROREC_ALERT_URL` if it is set, say table, day, rule and what to do next.

**Who goes first.** Jobs that start Spark share the pool `microrec_spark`, trainings `microrec_training` (`dags/pools.json`,
one place each: `airflow pools import dags/pools.json`). Of those that wait, a scheduled run comes before a manual one
and that before a backfill (`dags/plugins`, AIRFLOW__CORE__PLUGINS_FOLDER).

**A bad release.** `microrec rollback --to DAY --reason WHY` makes an earlier one the latest.

**Once more.** A day whose release stands and whose raw files, recipe and code are as they were is not made again:
`microrec plan --from D --to D` says what a backfill would make, and why. `force` makes it in any case. `models` makes do
with some of the recipe's models. `promote` releases a night that a gate finds not good enough (never one with wrong lists,
or a source that knows too much) and keeps the reason beside the release.

**A past day.** Use Backfill, or trigger with the parameter `day`. It gets a release of its own; the latest release
stays the one with the greatest day.
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param, TaskGroup, chain
from airflow.sdk.definitions.mappedoperator import MappedOperator
from alert import on_failure
from submit import (
    AfterGrace,
    Job,
    announce_release,
    grace_hours,
    models,
    plan_night,
    rankers,
    resolve_day,
    trained,
)

SPARK, TRAINING = "microrec_spark", "microrec_training"
POOLS = {
    "validate_events": SPARK,
    "build_watch_graph": SPARK,
    "build_modality_graph": SPARK,
    "build_user_graph": SPARK,
    "build_sequences": SPARK,
    "train_model": TRAINING,
}
"""Of the heavy jobs; the others share the default pool."""

with DAG(
    dag_id="nightly",
    doc_md=__doc__,
    # A bare cron string has no data interval in Airflow 3; this timetable gives each run its UTC day.
    schedule=CronDataIntervalTimetable("0 0 * * *", timezone="UTC"),
    start_date=datetime(2022, 1, 1),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(hours=12),
    params={
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            description="UTC day; only for manual runs",
        ),
        "models": Param(
            [],
            type="array",
            items={"type": "string", "enum": trained()},
            uniqueItems=True,
            examples=trained(),
            description="make do with these and popularity; all models of the recipe if left empty",
        ),
        "force": Param(
            False,
            type="boolean",
            description="train and make everything again though nothing changed",
        ),
        "promote": Param(
            None,
            type=["null", "string"],
            minLength=10,
            maxLength=500,
            description="why this night shall be released though a gate finds it not good enough",
        ),
    },
    default_args={
        "owner": "data platform",
        "retries": 2,
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=30),
        "execution_timeout": timedelta(hours=3),
        "on_failure_callback": on_failure,
        # By name: Airflow 3.3 does not take an instance in a mapped task.
        "weight_rule": "microrec_priority.NightFirst",
    },
    tags=["microrec", "tier-1"],
):
    wait = AfterGrace(
        task_id="wait_for_late_rows", hours=grace_hours(), poke_interval=300, timeout=86_400
    )
    day = resolve_day()
    planned = plan_night(day)
    chain(wait, day, planned)

    def job(name: str, **options: str) -> Job:
        """A task named as its job. What it follows may be skipped: a recipe need not have rankers."""
        place = {"pool": POOLS[name]} if name in POOLS else {}
        return Job(task_id=name, job=name, day=day, trigger_rule="none_failed", **place, **options)

    def mapped(name: str, fit: str, over: list[str]) -> MappedOperator:
        """A task mapped over models."""
        place = {"pool": POOLS[name]} if name in POOLS else {}
        named = {"task_id": name, "job": name, "map_index_template": "{{ task.model }}"}
        each = Job.partial(day=day, fit=fit, trigger_rule="none_failed", **named, **place)
        return each.expand(model=over)

    def fitted(fit: str) -> tuple[MappedOperator, Job]:
        """Train, propose, rank, blend: the first task and the last."""
        train = mapped("train_model", fit, trained())
        select = mapped("select_candidates", fit, models())
        rank = mapped("rank_candidates", fit, rankers())
        blend = job("blend_candidates", fit=fit)
        chain(train, select, rank)
        # Ranking may be skipped, so that what waits for it waits for the selection too.
        chain([select, rank], blend)
        return train, blend

    validate_events = job("validate_events")
    build_watch_graph = job("build_watch_graph")
    others = [job("build_modality_graph"), job("build_user_graph")]
    build_sequences = job("build_sequences")
    with TaskGroup("trial"):
        trial = fitted("trial")
    evaluate_sources = job("evaluate_sources")
    with TaskGroup("final"):
        final = fitted("final")
    publish_release = job("publish_release")

    chain(
        planned,
        validate_events,
        build_watch_graph,
        others,
        build_sequences,
        trial[0],
    )
    chain(trial[1], evaluate_sources, final[0])
    chain(final[1], job("select_recommendations"), job("check_recommendations"), publish_release)
    chain(final[0], [job("describe_trends"), job("describe_clips")], publish_release)
    chain(publish_release, announce_release(day))
