"""The gate where an operator knows better: MICROREC_PROMOTE overrules gates; log and release keep the reason."""

import datetime as dt
import logging

import pyarrow as pa

from microrec.config.settings import settings
from microrec.core import arguments, messages
from microrec.evaluation import gate

logger = logging.getLogger(__name__)


def require(results: pa.Table, *, day: dt.date, fit: str) -> str | None:
    """Hold the night as `gate.require` does, but for what the run's reason overrules.

    Args:
        results: rows of `gate_results`.
        day: of the night.
        fit: of the results.

    Returns:
        The reason, if anything was overruled.

    Raises:
        GateHeld: a gate failed that the reason, if there is one, does not overrule.
    """
    reason = settings().promote
    excused = gate.require(results, day=day, fit=fit, promoted=reason)
    if not excused:
        return None
    logger.warning(
        "promoted day=%s fit=%s gates=%s reason=%s",
        day, fit, ",".join(excused), messages.shown(reason, arguments.MAX_WORDS),
    )  # fmt: skip
    return reason
