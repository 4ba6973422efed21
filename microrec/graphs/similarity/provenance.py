"""Words that say what rows were made with: a rule (the code and its recipe) and the inputs."""

import hashlib

from pydantic import BaseModel


def digest(*words: str) -> str:
    """One short word for several."""
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def rule(version: int, config: BaseModel) -> str:
    """The word of code, by the `FORMAT` of its module, and of its section of the recipe."""
    return digest(str(version), config.model_dump_json())


def word(version: int, config: BaseModel, inputs: str) -> str:
    """Both, given a digest of the inputs.

    Take the digest before the rows are read: a word older than they are costs the next night a full
    build, a newer one would lie to it.
    """
    return f"{rule(version, config)} {inputs}"


def difference(was: str | None, is_now: str) -> tuple[str, ...]:
    """Why rows may not be taken as they lie there, if so: `unknown`, another `rule` or other `inputs`.

    Args:
        was: the word the rows were committed with; None if there are none, or without a word.
        is_now: the word they would be committed with now.
    """
    if was is None:
        return ("unknown",)
    if was == is_now:
        return ()
    return ("inputs" if was.split()[0] == is_now.split()[0] else "rule",)
