"""Signatures, and requests to models that have them, read without a service."""

import json
from typing import Any

from app.payloads.open_inference.reading import InferRequest, InferRequestReader
from app.version.signature import InputLayout, Layout, Signature, TensorSpec
from tests.versions import contract_of

WINDOWS = Signature.of(contract_of())
"""Windows of 4 steps and 2 features."""
NUMBER = Signature(inputs=InputLayout(Layout((TensorSpec("x", ()),))), outputs=Layout((TensorSpec("y", ()),)))
"""One number in, one number out."""
PAIR = Signature(
    inputs=InputLayout(Layout((TensorSpec("a", (2, 3)), TensorSpec("b", (4,))))),
    outputs=Layout((TensorSpec("y", (5, 2)), TensorSpec("z", ()))),
)
"""Two inputs and two outputs of different ranks."""


def read_body(body: bytes, length: bytes | None, signature: Signature = WINDOWS) -> InferRequest:
    return InferRequestReader("default", signature, 8).read(body, length)


def read(document: object, tail: bytes = b"", signature: Signature = WINDOWS) -> InferRequest:
    head = json.dumps(document).encode()
    return read_body(head + tail, b"%d" % len(head), signature)


def tensor(name: str, shape: Any, datatype: str = "FP32", **rest: Any) -> dict[str, Any]:
    """A tensor as a document describes it."""
    return {"name": name, "shape": [*shape], "datatype": datatype, **rest}
