"""# maintenance: takes out rows that are kept for some days only, and deletes files that are needed no more.

Each day `microrec prune` takes out what is older than the recipe keeps it (`[retention]`): refused rows after 14
days, what nights make on the way to their lists after 14 days, though never what the next nights read, results with
their release, Airflow's log files after 90 days. Then `microrec vacuum` deletes files that no table and none of the
last `keep` releases needs: old versions of tables, files of failed attempts, models of nights before the kept
releases, entries of the tables' logs. Files younger than `hours` stay, those of rows just taken out too; so do files
that a kept release pins, also those of a withdrawn one. To see first what would go: trigger a run with `dry_run`.

Airflow's own records are deleted elsewhere, as tasks of Airflow 3 cannot reach its database: the service `cleaner` of
docker/compose.yaml deletes those older than 90 days each day, and `microrec ui` does when it starts.

**When it is red.** No table and no kept release has lost a file, and rows are taken out whole or not at all; clear
the task.
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG, CronDataIntervalTimetable, Param
from airflow.sdk.configuration import conf
from defaults import DEFAULT_ARGS
from operators import Command

with DAG(
    dag_id="maintenance",
    doc_md=__doc__,
    schedule=CronDataIntervalTimetable("0 12 * * *", timezone="UTC"),
    start_date=datetime(2022, 1, 1),
    catchup=False,
    max_active_runs=1,
    # Where DAGs come from a versioned bundle, a run that is cleared would go on with the code of its first try.
    disable_bundle_versioning=True,
    params={
        "keep": Param(30, type="integer", minimum=1, description="releases that keep their files"),
        "hours": Param(168, type="integer", minimum=24, description="younger files stay"),
        "dry_run": Param(False, type="boolean", description="only say what would go"),
    },
    default_args=DEFAULT_ARGS
    | {"retry_delay": timedelta(minutes=5), "execution_timeout": timedelta(hours=2)},
    tags=["microrec"],
):
    pruned = Command(
        task_id="prune_tables",
        words=[
            "prune",
            "--keep",
            "{{ params.keep }}",
            "--airflow-logs",
            conf.get("logging", "base_log_folder"),
            "{{ '--dry-run' if params.dry_run else '' }}",
        ],
    )
    pruned >> Command(
        task_id="vacuum_tables",
        words=[
            "vacuum",
            "--keep",
            "{{ params.keep }}",
            "--hours",
            "{{ params.hours }}",
            "{{ '--dry-run' if params.dry_run else '' }}",
        ],
    )
