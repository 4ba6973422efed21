"""What every store can do that serves a release."""

import datetime as dt
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Self

import pyarrow as pa

from microrec.export.contents import Contents


class Served(NamedTuple):
    """What a store says of the release that it serves."""

    release: str
    """Its id."""
    day: dt.date
    valid_until: dt.datetime
    """Nothing of it is served from this instant on."""
    generation: str
    """Names this copy of it: keys, tables or a folder that no other export writes."""
    content: str
    """`Contents.digest`, or empty where people were taken out since."""
    lists: int = 0
    """How many lists it has."""

    def texts(self) -> dict[str, str]:
        """Return the fields as texts, by name."""
        instants = {"day": self.day.isoformat(), "valid_until": self.valid_until.isoformat()}
        return {name: str(value) for name, value in (self._asdict() | instants).items()}

    @classmethod
    def of_texts(cls, texts: dict[str, Any]) -> Self:
        """Return what `texts` has made of it."""
        return cls(
            texts["release"],
            dt.date.fromisoformat(texts["day"]),
            dt.datetime.fromisoformat(texts["valid_until"]),
            texts["generation"],
            texts["content"],
            int(texts["lists"]),
        )


class Target(ABC):
    """A store that serves one release at a time.

    All but `served` is called within `turn`, and `switch` after `stage` of the same copy.
    """

    @abstractmethod
    def turn(self) -> AbstractContextManager[None]:
        """Keep other exports out; one that was killed keeps nobody out for long."""

    @abstractmethod
    def served(self) -> Served | None:
        """Return what is served, None if nothing is."""

    @abstractmethod
    def stage(self, contents: Contents, served: Served) -> int:
        """Write all lists and vectors where no consumer looks.

        Args:
            contents: what is to be served.
            served: names the copy.

        Returns:
            Number of lists.
        """

    @abstractmethod
    def switch(self, served: Served) -> None:
        """Serve what was staged instead of what is served, in one step."""

    @abstractmethod
    def renew(self, served: Served) -> bool:
        """Set the time to live of what is served anew.

        Args:
            served: what is served.

        Returns:
            False if the store has lost some of it; then it must be staged again.
        """

    @abstractmethod
    def keep(self, users: pa.Array, profiled: pa.Array) -> int:
        """Take all other users out of what is served.

        Args:
            users: who may have a list, string [n].
            profiled: who may have lists of segments and vectors, string [m].

        Returns:
            Number of users whose list was taken out.
        """

    @abstractmethod
    def sweep(self) -> None:
        """Delete all copies but the one that is served."""
