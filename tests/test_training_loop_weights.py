"""The weights file that a run starts from is checked like its data."""

from pathlib import Path

import pytest

from kd.errors import UsageError
from kd.models import weights
from kd.spec import RunSpec
from kd.training.loop import require_same_weights


def test_another_content_is_refused_and_the_same_taken(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(b"one")
    spec = RunSpec(data="phantom-brain", model="resnet18", pretrained=str(path),
                   pretrained_fingerprint=weights.fingerprint(path))
    require_same_weights(spec)
    path.write_bytes(b"two")
    with pytest.raises(UsageError, match="w.safetensors has changed since this run was planned"):
        require_same_weights(spec)
