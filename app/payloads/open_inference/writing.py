"""Forecasts to the body of an answer."""

import numpy as np
import orjson

from app.arrays import Array
from app.payloads.open_inference.document import Entry
from app.payloads.open_inference.reading import InferRequest
from app.payloads.open_inference.tensors import DATATYPE
from app.payloads.writing import write_numbers
from app.version.signature import Signature


def write_answer(
    model: str, version: int, signature: Signature, request: InferRequest, forecasts: Array
) -> tuple[bytes, int | None]:
    """Writes the answer to a request.

    Args:
        model: The model that answers.
        version: The version that answers.
        signature: The model's tensors.
        request: The request.
        forecasts: Shape (batch, horizon, targets).

    Returns:
        The body, and the length of its document in bytes; None if the document is the whole body.
    """
    arrays = signature.outputs.split(forecasts)
    entries: list[Entry] = []
    parts: list[bytes] = []
    for output in request.outputs:
        array = arrays[output.place]
        name = signature.outputs.tensors[output.place].name
        entry: Entry = {"name": name, "datatype": DATATYPE, "shape": array.shape}
        if output.is_binary:
            parts.append(array.astype("<f4", copy=False).tobytes())
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = orjson.Fragment(write_numbers(np.ascontiguousarray(array).reshape(-1)))
        entries.append(entry)
    head = {"model_name": model, "model_version": str(version)}
    if request.id is not None:
        head["id"] = request.id
    document = orjson.dumps({**head, "outputs": entries})
    return (b"".join([document, *parts]), len(document)) if parts else (document, None)
