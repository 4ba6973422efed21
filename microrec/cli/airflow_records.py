"""Airflow's records of runs: when a run happened, whatever day it was for.

`DAG.test` notes the run's day as its start. A night of January that is made in June would look half a year long, and
`airflow db clean`, which goes by the start, would delete it at once. `python -m microrec.cli.airflow_records` mends the
records of an installation, with Airflow's settings in the environment.
"""

import datetime as dt

LONG_BEFORE = dt.timedelta(days=1)
"""A run that began so long before its first task did not."""


def correct_starts() -> int:
    """Let runs begin with their first task if they seem to have begun long before; return how many were mended."""
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import func, select

    first = (
        select(TaskInstance.dag_id, TaskInstance.run_id, func.min(TaskInstance.start_date))
        .where(TaskInstance.start_date.is_not(None))
        .group_by(TaskInstance.dag_id, TaskInstance.run_id)
    )
    n_mended = 0
    with create_session() as session:
        began = {(dag_id, run_id): start for dag_id, run_id, start in session.execute(first)}
        for run in session.scalars(select(DagRun)):
            start = began.get((run.dag_id, run.run_id))
            if start and run.start_date and start - run.start_date > LONG_BEFORE:
                run.start_date = start
                n_mended += 1
    return n_mended


if __name__ == "__main__":
    correct_starts()
