"""# hand_off: gives each release to the store that serves it, and takes out of it who was erased.

It runs when the latest release of microrec has moved, and when somebody was erased. `remove_withdrawn` takes out of
the store whoever has left the release that it serves; `export_release` then serves the latest release in its place,
and only sets its time to live anew if it is served already. The store is the variable `MICROREC_EXPORT_TO` of the
worker, such as `redis://store.internal:6379/0`. Copy it, and switch your copy on: it is paused at first.

Opting out raises no event: who has opted out leaves with the next release. For sooner, run `microrec export
--withdrawn` by the hour.

**When it is red.** The store serves what it served before, until that expires: an export is whole or not at all.
Clear the task when the cause is gone.
"""

from datetime import datetime, timedelta

from airflow.sdk import DAG, Asset
from defaults import DEFAULT_ARGS
from operators import Command

RELEASES = Asset("microrec://releases")
ERASURES = Asset("microrec://erasures")

with DAG(
    dag_id="hand_off",
    doc_md=__doc__,
    schedule=(RELEASES | ERASURES),
    start_date=datetime(2022, 1, 1),
    is_paused_upon_creation=True,
    max_active_runs=1,
    default_args=DEFAULT_ARGS
    | {
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "execution_timeout": timedelta(hours=1),
    },
    tags=["microrec", "example"],
):
    removed = Command(task_id="remove_withdrawn", words=["export", "--withdrawn"])
    # Also where the release that is served is no longer kept: the export then replaces it, and everybody in it.
    exported = Command(task_id="export_release", words=["export"], trigger_rule="all_done")
    removed >> exported
