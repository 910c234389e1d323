"""tensorflow-datasets, imported only where RLDS files are read or written (extra `train`)."""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any

from policies.training.demos import DemoError


def load_tfds() -> Any:
    """The module `tensorflow_datasets`, without TensorFlow's greetings and without a hand on any GPU.

    Raises DemoError when the extra is not installed.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        tensorflow = importlib.import_module("tensorflow")
        tfds = importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise DemoError(f"RLDS files need the extra `train`: pip install 'memvla-bench[train]' ({error})") from None
    tensorflow.config.set_visible_devices([], "GPU")  # training has the GPU for itself
    logging.getLogger("absl").setLevel(logging.ERROR)
    return tfds
