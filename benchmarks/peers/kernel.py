"""The kernel of all peers: ONNX Runtime on a version's fused twin, whose path is in MODEL.

Its threads are in THREADS: as many as the service under test gives its own engine.
"""

import os
from typing import Any

import numpy as np
import onnxruntime

_options = onnxruntime.SessionOptions()
_options.intra_op_num_threads = int(os.environ.get("THREADS", "1"))
_session = onnxruntime.InferenceSession(os.environ["MODEL"], _options, providers=["CPUExecutionProvider"])


def forecast(windows: Any) -> Any:
    """Forecasts nested lists or an array (batch, steps, features) -> array (batch, horizon, targets)."""
    return _session.run(["forecast"], {"windows": np.asarray(windows, np.float32)})[0]
