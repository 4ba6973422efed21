"""The second opinion: a contract's suite as Great Expectations itself builds and evaluates it.

`checks` audits every write; this module is for the few tables consumers read, once a night, in a process that pays
for the import anyway, and for the tests that hold the two against each other.
"""

import logging
import os
from functools import lru_cache

import pyarrow as pa

from microrec.errors import CheckFailed, ContractViolation
from microrec.tables.checks import Verdict
from microrec.tables.contract import Contract, Rule

# Set before the import: it reads the variable once and would send usage data otherwise.
os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations as gx
import great_expectations.expectations as gxe

logging.getLogger("great_expectations").setLevel(logging.WARNING)


def evaluate(contract: Contract, rows: pa.Table) -> list[Verdict]:
    """Evaluate every rule of the contract with Great Expectations.

    Args:
        contract: columns, key and rules of the table.
        rows: at the grain of the contract, all its columns.

    Returns:
        One verdict per declared rule, in order; `broken` counts rows as Great Expectations does (for uniqueness it
        counts all members of a duplicate group, where the audit counts the surplus).

    Raises:
        ContractViolation: fewer expectations were built or evaluated than declared.
    """
    expectations = [_build(rule) for rule in contract.rules]
    asset = _context().data_sources.add_or_update_pandas("rows").add_dataframe_asset(contract.table)
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(
        {"dataframe": rows.to_pandas()}
    )
    verdicts = []
    for rule, expectation in zip(contract.rules, expectations, strict=True):
        outcome = batch.validate(expectation)
        if outcome.exception_info.get("raised_exception"):
            raise ContractViolation(
                f"{contract.table}: {rule.name} was not evaluated: {outcome.exception_info}"
            )
        count = int((outcome.result or {}).get("unexpected_count") or 0)
        verdicts.append(Verdict(rule, 0 if outcome.success else max(count, 1), rows.num_rows))
    if not len(contract.rules) == len(expectations) == len(verdicts):
        raise ContractViolation(
            f"{contract.table}: {len(contract.rules)} declared, {len(verdicts)} evaluated"
        )
    return verdicts


def require(contract: Contract, rows: pa.Table, *, scope: str) -> int:
    """Refuse rows that break a `fail` rule as Great Expectations evaluates it.

    Args:
        contract: columns, key and rules of the table.
        rows: at the grain of the contract, all its columns.
        scope: partition values for messages: `day=2026-01-04`.

    Returns:
        The number of expectations evaluated.

    Raises:
        CheckFailed: naming table, scope, rules and counts.
    """
    verdicts = evaluate(contract, rows)
    failed = [str(v) for v in verdicts if v.broken and v.rule.severity == "fail"]
    if failed:
        raise CheckFailed(f"{contract.table}[{scope}] Great Expectations: " + "; ".join(failed))
    return len(verdicts)


@lru_cache
def _context() -> gx.data_context.EphemeralDataContext:
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    return context


def _build(rule: Rule) -> gxe.Expectation:
    """The expectation by class, so that an unknown type or argument is an error and is not dropped."""
    name = "".join(part.capitalize() for part in rule.type.split("_"))
    try:
        return getattr(gxe, name)(**rule.kwargs)
    except AttributeError:
        raise ContractViolation(f"Great Expectations has no {rule.type}") from None
