"""Tonight's lists from yesterday's: only rows whose lists may differ are compared with all again.

Let a row be *touched* if it is new or not what it was, and an entry *stand* if its neighbour still
exists and is untouched. The score of two untouched rows is what it was, to the bit, and so is the
order of ties: it follows from the ids, and so do the indices on both days. Then, for an untouched row whose
list of yesterday

- was not full: it held every row that counts. Of today's rows only touched ones can be missing;
- was full and stands as a whole: every untouched row outside is worse than all k inside. So again
  only touched rows can come in;
- was full and lost an entry: what would follow in it is not known. The row is *lost*.

So touched and lost rows (*stale* ones) are compared with all rows, the others with touched rows
only, and the best k of those and of what stands are the list. Nothing here is an approximation.

Where this does not hold for a graph (scores that change although neither row did), the graph's
module names the obstacle and the night is built in full.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from microrec.graphs.similarity.blocks import OFFERED, WANTED

WORTH = 0.5
"""A night that would compare a larger share of the pairs is built in full: rows are packed and
shuffled twice here."""

Search = Callable[[DataFrame], DataFrame]
"""Rows, perhaps `wanted` and `offered`, to lists: within, idx, neighbour_idx, measures, rank."""


@dataclass(frozen=True)
class Change:
    """What is left of yesterday's lists, by today's indices.

    `flags` has one row per row of today: within, idx, touched, stale. `standing` has yesterday's
    entries that stand, of untouched rows: within, idx, neighbour_idx and the measures.
    """

    within: tuple[str, ...]
    flags: DataFrame
    standing: DataFrame


@dataclass(frozen=True)
class Plan:
    """Whether yesterday's lists are reused (then there is a change), or why they are not."""

    reasons: tuple[str, ...] = ()
    change: Change | None = None
    n_rows: int = 0
    n_touched: int = 0
    n_lost: int = 0

    def __str__(self) -> str:
        """Return the plan as the fields of a log line, without counts that were not taken."""
        kind = "incremental" if self.change else "full"
        why = ",".join(self.reasons) or "none"
        counts = f"rows={self.n_rows} touched={self.n_touched} lost={self.n_lost} "
        return f"plan={kind} {counts if self.n_rows else ''}reasons={why}"


FULL = Plan()
"""A full build, for no reason."""


def index_map(before: DataFrame, today: DataFrame, name: str) -> DataFrame:
    """Map yesterday's indices to today's: one row per node of both days, was and idx.

    Args:
        before: `<name>_id` and `<name>_idx` of yesterday.
        today: the same of today.
        name: kind of node, `user` or `video`.

    Returns:
        was, idx.
    """
    was = before.select(f"{name}_id", F.col(f"{name}_idx").alias("was"))
    now = today.select(f"{name}_id", F.col(f"{name}_idx").alias("idx"))
    return was.join(now, on=f"{name}_id", how="inner").select("was", "idx")


def reindexed(lists: DataFrame, nodes: DataFrame) -> DataFrame:
    """Translate yesterday's lists to today's indices.

    Args:
        lists: idx, neighbour_idx, others.
        nodes: result of `index_map`.

    Returns:
        One row per (idx, neighbour_idx) whose row still exists; a neighbour that is gone is null.
    """
    neighbours = nodes.select(F.col("was").alias("neighbour_idx"), F.col("idx").alias("now"))
    by_row = lists.withColumnRenamed("idx", "was").join(nodes, on="was", how="inner").drop("was")
    moved = by_row.join(neighbours, on="neighbour_idx", how="left").drop("neighbour_idx")
    return moved.withColumnRenamed("now", "neighbour_idx")


def find_change(lists: DataFrame, marks: DataFrame, *, within: Sequence[str], k: int) -> Change:
    """Find which entries of yesterday's lists stand.

    Args:
        lists: result of `reindexed`: within, idx, neighbour_idx, the measures, rank.
        marks: one row per row of today: within, idx, touched.
        within: columns that name the space.
        k: length of a full list.

    Returns:
        The flags of today's rows, and the entries that stand.
    """
    row = [*within, "idx"]
    untouched = ~F.col("touched")
    neighbours = marks.where(untouched).select(
        *within, F.col("idx").alias("neighbour_idx"), F.lit(True).alias("stands")
    )
    entries = (
        lists.drop("rank")
        .join(marks.where(untouched).select(*row), on=row, how="inner")
        .join(neighbours, on=[*within, "neighbour_idx"], how="left")
    )
    sizes = entries.groupBy(*row).agg(F.count("*").alias("n"), F.count("stands").alias("n_stand"))
    lost = sizes.where((F.col("n") == k) & (F.col("n_stand") < k)).select(
        *row, F.lit(True).alias("lost")
    )
    stale = F.col("touched") | F.col("lost").isNotNull()
    flags = marks.join(lost, on=row, how="left").select(*row, "touched", stale.alias("stale"))
    return Change(tuple(within), flags, entries.where("stands").drop("stands"))


def plan(change: Change) -> Plan:
    """Decide to reuse what stands, unless almost nothing does.

    The flags are counted here and read several times later, so they stay in the cache.

    Args:
        change: result of `find_change`.

    Returns:
        The change with its counts; without it, and with reason `touched`, where a full build is cheaper.
    """
    counted = change.flags.cache().agg(F.count("*"), F.count_if("touched"), F.count_if("stale"))
    n_rows, n_touched, n_stale = counted.head() or (0, 0, 0)
    pairs = n_stale * n_rows + (n_rows - n_stale) * n_touched
    pays = pairs <= WORTH * n_rows * n_rows
    return Plan(
        () if pays else ("touched",),
        change if pays else None,
        n_rows=n_rows,
        n_touched=n_touched,
        n_lost=n_stale - n_touched,
    )


def lists(
    rows: DataFrame, plan: Plan, search: Search, *, score: Sequence[str], k: int
) -> DataFrame:
    """Build the lists of all rows, to the bit those of `search(rows)`.

    Args:
        rows: within, idx and what the search reads; an idx may have many rows.
        plan: made of a change to these rows.
        search: exact; ties by neighbour_idx.
        score: the measures that rank, greatest first, each telling apart what the one before leaves equal.
        k: entries of a list, at most.

    Returns:
        One row per (within, idx, neighbour_idx), as the search gives them, in any order of columns.
    """
    if plan.change is None:
        return search(rows)
    row = [*plan.change.within, "idx"]
    flagged = rows.join(plan.change.flags, on=row, how="inner")
    fresh = plan.change.flags.where(~F.col("stale")).select(*row)
    entries = plan.change.standing.join(fresh, on=row, how="left_semi")
    if plan.n_touched:
        flags = [(~F.col("stale")).alias(WANTED), F.col("touched").alias(OFFERED)]
        entries = entries.unionByName(search(flagged.select(*rows.columns, *flags)).drop("rank"))
    best = Window.partitionBy(*row).orderBy(*(F.desc(name) for name in score), "neighbour_idx")
    ranked = entries.withColumn("rank", F.row_number().over(best)).where(F.col("rank") <= k)
    if plan.n_touched + plan.n_lost:
        stale = flagged.select(*rows.columns, F.col("stale").alias(WANTED))
        ranked = ranked.unionByName(search(stale))
    return ranked
