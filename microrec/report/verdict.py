"""What became of a night, in a word and a sentence: the first line of its report."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from microrec.core import messages
from microrec.release.reader import WITHDRAWN, Release

WIDTH = 300
"""Characters of a gate's words that the first line shows."""

Word = Literal["released", "degraded", "held", "withdrawn", "unfinished"]


class Verdict(NamedTuple):
    """What became of a night."""

    word: Word
    why: str
    """A sentence; what a reader should know first."""


def verdict(
    release: Release | None,
    gates: Sequence[Mapping[str, Any]],
    *,
    dead: Sequence[str],
    last_table: str | None,
) -> Verdict:
    """Say what became of a night.

    Args:
        release: of the day, withdrawn ones too; None: it has none.
        gates: rows of `gate_results` of the day.
        dead: sources of the recipe that proposed nothing.
        last_table: what the night committed last; None: nothing.

    Returns:
        withdrawn; held: a gate failed and nobody overruled it; unfinished: no gate says why there is no release;
        degraded: released without a source or in spite of a gate; released.
    """
    failed = [row for row in gates if row["severity"] == "hold" and row["status"] != "pass"]
    words = "; ".join(f"{row['gate']} ({_short(row['detail'])})" for row in failed)
    missing = f"no candidates of {', '.join(dead)}" if dead else ""
    if release is not None and release.status == WITHDRAWN:
        return Verdict("withdrawn", f"consumers follow another release: {release.reason}")
    if failed and (release is None or release.reason is None):
        stands = "the release of an earlier run stands" if release else "the last release stands"
        return Verdict("held", f"{words}; {stands}")
    if release is None:
        return Verdict(
            "unfinished",
            f"no gate failed and there is no release; the last table it committed is {last_table}"
            if last_table
            else "nothing was committed of this day",
        )
    if failed:
        because = f"released in spite of {words}: {release.reason}"
        return Verdict("degraded", "; ".join(filter(None, [missing, because])))
    if dead:
        return Verdict("degraded", f"{missing}; the other sources decide: {release.id}")
    warned = [row["gate"] for row in gates if row["severity"] == "warn" and row["status"] != "pass"]
    noted = f"; warnings: {', '.join(sorted(set(warned) - {'verdict'}))}" if warned else ""
    return Verdict("released", f"{release.id}, every gate that holds a night passed{noted}")


def _short(text: str) -> str:
    line = messages.one_line(text)
    return line if len(line) <= WIDTH else f"{line[:WIDTH]} ..."
