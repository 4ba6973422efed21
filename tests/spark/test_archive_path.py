"""The class archive is one per Java and Spark."""

from pathlib import Path

import pytest

from microrec.config.settings import Settings
from microrec.spark import archive_path


def test_archive_other_java_or_spark_needs_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    unknown = archive_path.archive_path(Settings())
    (tmp_path / "release").write_text('IMPLEMENTOR="X"\nJAVA_VERSION="17.0.99"\n')
    known = archive_path.archive_path(Settings())
    assert "17.0.99" in known.name
    assert known != unknown
    monkeypatch.setattr(archive_path, "version", lambda name: "9.9.9")
    assert archive_path.archive_path(Settings()) not in (known, unknown)
