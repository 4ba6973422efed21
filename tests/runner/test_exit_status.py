"""The exit statuses, which schedulers and pages rely on."""

from microrec.runner.exit_status import MEANINGS, ExitStatus


def test_exit_status_values_are_fixed() -> None:
    assert {status.name: status.value for status in ExitStatus} == {
        "SUCCESS": 0,
        "FAILURE": 1,
        "USAGE": 2,
        "DATA_ERROR": 65,
        "RECIPE_ERROR": 78,
        "NOTHING_TO_DO": 99,
        "INTERRUPTED": 130,
    }


def test_exit_status_each_has_a_meaning() -> None:
    assert set(MEANINGS) == set(ExitStatus)
    assert all(status.meaning for status in ExitStatus)
