"""What one writes by hand: a FastAPI route around the model, as Keras loads it or as TensorFlow does.

MODEL is a file that Keras saved, or the folder of a SavedModel.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from fastapi import FastAPI
from pydantic import BaseModel

MODEL = Path(os.environ["MODEL"])

app = FastAPI()


class Request(BaseModel):
    """Windows as nested lists."""

    windows: list[list[list[float]]]


def _load() -> Any:
    if MODEL.is_dir():
        signature = tf.saved_model.load(str(MODEL)).signatures["serving_default"]
        return lambda windows: signature(windows=tf.constant(windows))["forecast"].numpy()
    import training.network.layers  # noqa: F401  # what the model is made of

    network = tf.keras.models.load_model(MODEL)
    return lambda windows: network.predict(windows, batch_size=len(windows), verbose=0)


forecast = _load()


@app.post("/predict")
def predict(request: Request) -> dict[str, Any]:
    """Forecasts in FastAPI's thread pool."""
    return {"predictions": forecast(np.array(request.windows, np.float32)).tolist()}
