"""Sums that do not depend on the order of the rows."""

from pyspark.sql import Column
from pyspark.sql import functions as F

UNIT = float(2**40)


def exact_sum(term: Column) -> Column:
    """Return the sum of a group, the same to the bit for every order of its rows.

    Floating-point addition is not associative, and Spark adds a group's rows in the order in which
    shuffle blocks arrive; a re-run would give other last digits and another content hash. Terms are
    rounded to multiples of 2**-40 (about 1e-12) and added as integers.

    Args:
        term: double, finite, one row per member of the group; absolute value of the sum below 2**23.

    Raises:
        ArithmeticException: from Spark's ANSI mode, when the sum leaves that range.
    """
    return F.sum(F.rint(term * UNIT).cast("bigint")).cast("double") / UNIT
