"""Errors an operator meets. Each message names the table, the day, the rule and the count where there is one."""


class MicrorecError(Exception):
    """Base of every error that is about data or configuration, not about a defect of the code."""


class MissingDay(MicrorecError):
    """A table has no committed rows or marker for the day (or other partition) that was asked for."""


class ContractViolation(MicrorecError):
    """Rows do not have exactly the columns and types their contract declares."""


class CheckFailed(MicrorecError):
    """Staged rows break a `fail` rule of their contract; nothing was committed."""


class CommitConflict(MicrorecError):
    """A newer attempt of the same run already committed; this one is late and stays invisible."""


class LockHeld(MicrorecError):
    """Another process holds a lock that an object store keeps."""


class LandingError(MicrorecError):
    """The landing zone lacks a day, or holds a file that cannot be read to its end."""


class GateHeld(MicrorecError):
    """A gate held the night: nothing was published, the previous release stands."""


class RecipeError(MicrorecError):
    """The recipe has an unknown section or key, or a value outside its range."""


class BadArgument(MicrorecError):
    """A day, name, id or root from outside is not one; nothing was looked for under it."""
