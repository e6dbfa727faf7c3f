"""Signatures are read off a SavedModel as protobuf's own code reads them, and off nothing else."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from app.errors import ArtifactError
from app.version.manifest import Contract
from app.version.saved_model import MAX_FIELDS, MAX_SIGNATURES_BYTES, read_signatures
from tests.versions import make_version, printed, signatures_of

DATATYPES = [*range(34), *range(101, 134)]


def one_input(contract: Contract, folder: Path) -> Path:
    return make_version(folder, contract)


def keras_export(contract: Contract, folder: Path) -> Path:
    layers = [keras.Input(contract.window_shape), keras.layers.LSTM(3), keras.layers.Dense(2)]
    keras.Sequential(layers).export(folder, verbose=False)
    return folder


def several_inputs(contract: Contract, folder: Path) -> Path:
    recent, calendar = keras.Input(contract.window_shape, name="recent"), keras.Input((3,), name="calendar")
    state = keras.layers.Concatenate()([keras.layers.LSTM(3)(recent), calendar])
    outputs = {name: keras.layers.Dense(2)(state) for name in ("load", "total")}
    keras.Model({"recent": recent, "calendar": calendar}, outputs).export(folder, verbose=False)
    return folder


@pytest.mark.parametrize("save", [one_input, keras_export, several_inputs])
def test_what_exporters_write_is_read(
    save: Callable[[Contract, Path], Path], contract: Contract, tmp_path: Path
) -> None:
    folder = save(contract, tmp_path)
    signatures = read_signatures(folder / "saved_model.pb")
    assert "serving_default" in signatures
    assert signatures == signatures_of(folder)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a test may put a file; nothing else is in the folder."""
    return tmp_path_factory.mktemp("saved") / "saved_model.pb"


SIZES = st.lists(st.tuples(st.integers(-1, 2**63 - 1) | st.just(-(2**63)), st.text()), max_size=3)


def fill_shape(shape: Any, sizes: list[tuple[int, str]], *, is_unknown: bool) -> None:
    for size, name in sizes:
        shape.dim.add(size=size, name=name)
    shape.unknown_rank = is_unknown


@st.composite
def saved_models(draw: st.DrawFn) -> Any:
    """SavedModels with signatures of every kind, and a graph that is none."""
    saved = SavedModel(saved_model_schema_version=1)
    graph = saved.meta_graphs.add()
    graph.meta_info_def.tags.append("serve")
    graph.saver_def.keep_checkpoint_every_n_hours = 1.5  # four bytes of a fixed size
    for signature_name in draw(st.lists(st.text(), max_size=3)):
        signature = graph.signature_def[signature_name]
        signature.method_name = draw(st.text())
        for tensors in (signature.inputs, signature.outputs):
            for tensor_name in draw(st.lists(st.text(), max_size=3)):
                fill_tensor(draw, tensors[tensor_name])
        for default_name in draw(st.lists(st.text(), max_size=1)):
            default = signature.defaults[default_name]
            default.dtype = draw(st.sampled_from(DATATYPES))
            if draw(st.booleans()):
                fill_shape(default.tensor_shape, draw(SIZES), is_unknown=draw(st.booleans()))
    return saved


def fill_tensor(draw: st.DrawFn, tensor: Any) -> None:
    tensor.dtype = draw(st.sampled_from([*DATATYPES, 99, 2**31 - 1, -1]))
    if draw(st.booleans()):
        fill_shape(tensor.tensor_shape, draw(SIZES), is_unknown=draw(st.booleans()))
    match draw(st.sampled_from(["none", "name", "sparse"])):
        case "name":
            tensor.name = draw(st.text())
        case "sparse":
            tensor.coo_sparse.values_tensor_name = draw(st.text())
            tensor.coo_sparse.dense_shape_tensor_name = draw(st.text())


VALUES_OF_DEFAULTS = re.compile(r"version_number|.+_(?:val|content)")


def without_values(signatures: dict[str, Any]) -> dict[str, Any]:
    """The signatures without what is not told of a default."""
    for signature in signatures.values():
        for default in signature["defaults"].values():
            for field in [field for field in default if VALUES_OF_DEFAULTS.fullmatch(field)]:
                del default[field]
    return signatures


@given(saved_models())
def test_any_signature_is_read_as_protobuf_prints_it(path: Path, saved: Any) -> None:
    path.write_bytes(saved.SerializeToString())
    assert read_signatures(path) == without_values(printed(saved))


def test_fields_of_every_kind_are_passed_over(path: Path) -> None:
    unknown = b"\x78\xff\x01" + b"\x79" + b"\xff" * 8 + b"\x7a\x02\xff\xff" + b"\x7d" + b"\xff" * 4
    path.write_bytes(unknown + graph_of(unknown + b"\x0a\x01s") + unknown)
    assert read_signatures(path).keys() == {"s"}


def test_the_graph_is_not_looked_into(path: Path) -> None:
    graph = b"\xff" * 2**25
    signature = b"\x0a\x01s\x12\x00"
    meta_graph = b"\x12" + varint(len(graph)) + graph + b"\x2a" + varint(len(signature)) + signature
    path.write_bytes(b"\x12" + varint(len(meta_graph)) + meta_graph)
    assert read_signatures(path) == {"s": {"inputs": {}, "outputs": {}, "method_name": "", "defaults": {}}}


def test_a_graph_of_a_terabyte_is_passed_over(path: Path) -> None:
    signature = b"\x2a\x05\x0a\x01s\x12\x00"
    before = b"\x12" + varint(2**40)
    meta_graph = b"\x12" + varint(2**40 + len(before) + len(signature)) + before
    with path.open("wb") as file:
        file.write(meta_graph)
        file.seek(2**40, os.SEEK_CUR)  # takes no room
        file.write(signature)
    assert read_signatures(path).keys() == {"s"}


@pytest.mark.parametrize("wrap", [bytes, lambda fields: b"\x12" + varint(len(fields)) + fields])
def test_fields_without_number_are_refused(wrap: Callable[[bytes], bytes], path: Path) -> None:
    path.write_bytes(wrap(b"\x08\x01" * (MAX_FIELDS + 1)))
    with pytest.raises(ArtifactError, match="is not a SavedModel"):
        read_signatures(path)


def varint(number: int) -> bytes:
    digits = [number >> shift & 127 for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])


def graph_of(*entries: bytes) -> bytes:
    """A SavedModel whose signatures are these bytes."""
    graph = b"".join(b"\x2a" + varint(len(entry)) + entry for entry in entries)
    return b"\x12" + varint(len(graph)) + graph


NO_SAVED_MODELS = [
    b"",
    b"no model",
    b"\x08\x01",  # no graph
    b"\x12\x00\x12\x00",  # two graphs
    b"\x10\x01",  # a number for a graph
    b"\x12\x05\x00",  # a graph that goes on behind the end
    b"\x12\x80",  # a size that does not end
    b"\x12" + b"\xff" * 10,  # nor here
    b"\x08" + b"\xff" * 10 + b"\x01\x12\x00",  # a number that ends too late
    b"\x12\x00\x0b",  # a group
    b"\x12\x00\x0d\x00",  # four bytes of which one is there
    b"\x12\x00\x09" + b"\x00" * 7,  # eight bytes of which seven are there
    graph_of(b"\x0a\x01\xff"),  # a name that is not UTF-8
    graph_of(b"\x08\x01"),  # a number for a name
    graph_of(b"\x10\x01"),  # a number for a signature
    graph_of(b"\x12\x02\x08\x01"),  # a number for inputs
    graph_of(b"\x12\x06\x0a\x04\x12\x02\x12\x00"),  # bytes for a type
]


@pytest.mark.parametrize("content", NO_SAVED_MODELS)
def test_what_is_no_saved_model_is_refused_by_its_path(content: bytes, path: Path) -> None:
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"^{re.escape(str(path))}: is not a SavedModel; export the version again"):
        read_signatures(path)


def test_a_file_that_ends_early_is_refused(contract: Contract, path: Path, tmp_path: Path) -> None:
    content = (make_version(tmp_path, contract) / "saved_model.pb").read_bytes()
    for end in range(0, len(content), 97):
        path.write_bytes(content[:end])
        with pytest.raises(ArtifactError, match="is not a SavedModel"):
            read_signatures(path)


@given(saved_models(), st.data())
def test_any_damage_is_an_error_or_goes_unseen(path: Path, saved: Any, data: st.DataObject) -> None:
    content = bytearray(saved.SerializeToString())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with suppress(ArtifactError):
        assert orjson.dumps(read_signatures(path))


def test_signatures_are_bounded(path: Path) -> None:
    half = MAX_SIGNATURES_BYTES // 2
    entry = b"\x0a" + varint(half) + b"x" * half
    path.write_bytes(graph_of(entry))
    assert len(read_signatures(path)) == 1
    path.write_bytes(graph_of(entry, entry))
    with pytest.raises(ArtifactError, match=f"has more than {MAX_SIGNATURES_BYTES} bytes of signatures"):
        read_signatures(path)


def test_a_file_that_cannot_be_read_is_told(path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"missing\.pb: the file is missing"):
        read_signatures(path.with_name("missing.pb"))
    with pytest.raises(ArtifactError, match=r"is not a file"):
        read_signatures(path.parent)
