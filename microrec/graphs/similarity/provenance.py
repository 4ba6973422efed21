"""Stamps that identify what rows were made with: a rule (the code and its recipe) and the inputs."""

from pydantic import BaseModel

from microrec.core.digests import digest


def rule(version: int, config: BaseModel) -> str:
    """Return the digest of code, by the `FORMAT` of its module, and of its section of the recipe.

    Args:
        version: the `FORMAT`.
        config: the section.
    """
    return digest([str(version), config.model_dump_json()])


def stamp(version: int, config: BaseModel, inputs: str) -> str:
    """Return the rule and the inputs, as rows are committed with.

    Take the digest of the inputs before the rows are read: a stamp older than the rows costs the next
    night a full build, a newer one would hide a change from it.

    Args:
        version: the `FORMAT` of the code's module.
        config: its section of the recipe.
        inputs: digest of the inputs.
    """
    return f"{rule(version, config)} {inputs}"


def stale_reasons(was: str | None, is_now: str) -> tuple[str, ...]:
    """Return why committed rows may not be reused: nothing, `unknown`, another `rule` or other `inputs`.

    Args:
        was: the stamp the rows were committed with; None if there are none, or none with a stamp.
        is_now: the stamp they would be committed with now.
    """
    if was is None:
        return ("unknown",)
    if was == is_now:
        return ()
    return ("inputs" if was.split()[0] == is_now.split()[0] else "rule",)
