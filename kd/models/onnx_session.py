"""ONNX files as functions of images, by onnxruntime on the processor."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

IMAGES = "images"  # name of the input


class OnnxSession:
    """A file's function. outputs: their names. Any number of threads may share it.

    file: a path, or the file's content. threads: 0 for onnxruntime's own choice.
    """

    def __init__(self, file: Path | bytes, threads: int = 0) -> None:
        import onnxruntime  # here, because it takes a third of a second

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(file if isinstance(file, bytes) else str(file), options,
                                                     providers=["CPUExecutionProvider"])
        self._part = onnxruntime.RunOptions()
        self._part.only_execute_path_to_fetches = True
        self.outputs = tuple(one.name for one in self._session.get_outputs())

    def __call__(self, images: NDArray[np.float32], wanted: Sequence[str] = ()) -> dict[str, NDArray[np.float32]]:
        """Outputs by name, by default all, for images [B, 3, S, S] in 0..1."""
        names = list(wanted or self.outputs)
        found = self._session.run(names, {IMAGES: images}, self._part)
        return dict(zip(names, found, strict=True))
