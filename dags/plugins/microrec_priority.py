"""Priorities: of the tasks that wait for a slot, those of scheduled runs come first, those of backfills last."""

from typing import TYPE_CHECKING

from airflow.plugins_manager import AirflowPlugin
from airflow.task.priority_strategy import PriorityWeightStrategy

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

SCHEDULED = 1000
MANUAL = 100
BACKFILL = 1


class NightFirst(PriorityWeightStrategy):
    """Weight by what made the run; by default Airflow would take the older day first."""

    def get_weight(self, ti: "TaskInstance") -> int:
        """Return the weight of a task: scheduled before manual before backfill."""
        kind = ti.run_id.split("__", 1)[0]
        return {"scheduled": SCHEDULED, "backfill": BACKFILL}.get(kind, MANUAL)


class MicrorecPlugin(AirflowPlugin):
    """Registers the strategy; Airflow finds it in AIRFLOW__CORE__PLUGINS_FOLDER."""

    name = "microrec"
    priority_weight_strategies = [NightFirst]  # noqa: RUF012 - as Airflow declares it
