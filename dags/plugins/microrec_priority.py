"""The night before backfills: of tasks that wait for a place, those of scheduled runs come first."""

from typing import TYPE_CHECKING

from airflow.plugins_manager import AirflowPlugin
from airflow.task.priority_strategy import PriorityWeightStrategy

if TYPE_CHECKING:
    from airflow.models.taskinstance import TaskInstance

SCHEDULED, BY_HAND, BACKFILL = 1000, 100, 1


class NightFirst(PriorityWeightStrategy):
    """A weight by how the run was made; without it Airflow would take the older day first."""

    def get_weight(self, ti: "TaskInstance") -> int:
        """Scheduled before manual before backfill."""
        kind = ti.run_id.split("__", 1)[0]
        return {"scheduled": SCHEDULED, "backfill": BACKFILL}.get(kind, BY_HAND)


class MicrorecPlugin(AirflowPlugin):
    """Tells Airflow of it; the folder is AIRFLOW__CORE__PLUGINS_FOLDER."""

    name = "microrec"
    priority_weight_strategies = [NightFirst]  # noqa: RUF012 - as Airflow declares it
