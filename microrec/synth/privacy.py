"""What users ask for their data, and whom that suppresses at the end of each day.

Planted: users who opt out on the second day; some of them opt in again two days later; users who
ask to be erased on the third day (and watch nothing from the day after). In a world too short for
that, the requests fall on its last day, in the same order.
"""

import dataclasses

import numpy as np

from microrec.core.array_types import Int64s
from microrec.synth.population import DAY_MS


@dataclasses.dataclass(frozen=True)
class Request:
    """One privacy request.

    Attributes:
        user: position of the user.
        kind: opt_out, opt_in or erase.
        day: offset of the day it arrives from the first day.
        time_ms: milliseconds into that day.
    """

    user: int
    kind: str
    day: int
    time_ms: int


def draw_requests(n_users: int, n_days: int, rng: np.random.Generator) -> list[Request]:
    """Return the requests of a world, ordered by time.

    One user in a hundred opts out (at least two), every other one of them comes back, one in two hundred is erased (at
    least one).

    Args:
        n_users: users of the world.
        n_days: days of arrival.
        rng: source of every draw.
    """
    n_out = max(2, n_users // 100)
    n_erased = max(1, n_users // 200)
    users = rng.permutation(n_users)
    out = users[:n_out]
    erased = users[n_out : n_out + n_erased]
    drawn = [("opt_out", 1, 0, user) for user in out]
    drawn += [("opt_in", 3, 1, user) for user in out[::2]]
    drawn += [("erase", 2, 2, user) for user in erased]
    requests = []
    for kind, day, third, user in drawn:
        time_ms = third * DAY_MS // 3 + int(rng.integers(1, DAY_MS // 3))
        requests.append(Request(int(user), kind, min(day, n_days - 1), time_ms))
    return sorted(requests, key=lambda request: (request.day, request.time_ms, request.user))


def suppressed(requests: list[Request], day: int) -> dict[int, str]:
    """Return the users suppressed at the end of a day, with the request in force (opt_out or erase).

    Args:
        requests: ordered by time.
        day: offset from the first day.
    """
    in_force: dict[int, str] = {}
    for request in requests:
        if request.day > day:
            break
        if request.kind == "opt_in":
            in_force.pop(request.user, None)
        else:
            in_force[request.user] = request.kind
    return in_force


def last_day(requests: list[Request], n_users: int, n_days: int) -> Int64s:
    """Return the last day on which each user may watch [n_users]; erased users stop on the day they ask.

    Args:
        requests: ordered by time.
        n_users: users of the world.
        n_days: days of arrival.
    """
    last = np.full(n_users, n_days - 1, dtype=np.int64)
    for request in requests:
        if request.kind == "erase":
            last[request.user] = request.day
    return last
