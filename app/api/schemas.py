"""Bodies and answers of `/v1` and `/v2`, for the documentation only. `app.payloads` reads and writes them by hand.

The file is long because it holds every body of both protocols, which are read beside each other.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field, RootModel

from app.payloads.open_inference.tensors import BINARY_ONLY, DATATYPES
from app.payloads.open_inference.times import TEXT


@dataclass(frozen=True, slots=True)
class About:
    """What the documentation says of a route.

    Attributes:
        summary: What the route does, in a sentence.
        answer: The model of the answer.
        body: The model of the body; None if the route takes no body.
        is_binary: Whether the bytes of tensors may follow body and answer.
    """

    summary: str
    answer: type[BaseModel]
    body: type[BaseModel] | None = None
    is_binary: bool = False


class ErrorAnswer(BaseModel):
    """The answer to a request that failed."""

    error: str


class ModelNames(BaseModel):
    """The models that serve, the default model first."""

    models: list[str]


Batch: TypeAlias = Annotated[list[Any], Field(min_length=1)]
"""The values of an input, one for each window."""


class Rows(BaseModel):
    """Windows in row format: one value for each window of the batch."""

    instances: Annotated[
        list[Any],
        Field(
            min_length=1,
            description="Lists nested as the input's shape says, or objects with such lists by the inputs' names.",
        ),
    ]
    signature_name: Literal["serving_default", ""] = "serving_default"


class Columns(BaseModel):
    """Windows in column format: one value for each input, with the batch as its first axis."""

    inputs: Annotated[
        Batch | dict[str, Batch],
        Field(description="The only input, or an object with a list for each input."),
    ]
    signature_name: Literal["serving_default", ""] = "serving_default"


class PredictRequest(RootModel[Rows | Columns]):
    """Windows, in row or in column format."""


class RowForecasts(BaseModel):
    """The answer in row format."""

    predictions: Annotated[
        list[Any],
        Field(description="One value for each window: the only output, or an object with all outputs by name."),
    ]


class ColumnForecasts(BaseModel):
    """The answer in column format."""

    outputs: Annotated[
        list[Any] | dict[str, list[Any]],
        Field(description="The only output, or an object with a list for each output."),
    ]


class PredictAnswer(RootModel[RowForecasts | ColumnForecasts]):
    """Forecasts, in the format of the body."""


class VersionOutcome(BaseModel):
    """Why a version could not be loaded; `OK` for any other version."""

    error_code: Literal["OK", "UNKNOWN"]
    error_message: str


class VersionStatus(BaseModel):
    """Where a version stands."""

    version: str
    state: Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
    status: VersionOutcome


class ModelStatus(BaseModel):
    """Where the versions of a model stand, the highest version first."""

    model_version_status: list[VersionStatus]


class Dimension(BaseModel):
    """The size of an axis; -1 stands for any size."""

    size: str
    name: str


class TensorShape(BaseModel):
    """The sizes of all axes of a tensor."""

    dim: list[Dimension]
    unknown_rank: bool


class TensorInfo(BaseModel):
    """A tensor of the graph."""

    dtype: Annotated[str | int, Field(examples=["DT_FLOAT"])]
    tensor_shape: TensorShape | None = None
    name: str | None = None
    coo_sparse: dict[str, str] | None = None


class SignatureInfo(BaseModel):
    """The inputs and outputs of a signature."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    method_name: Annotated[str, Field(examples=["tensorflow/serving/predict"])]
    defaults: dict[str, Any]


class SignatureMap(BaseModel):
    """The signatures by name. Only `serving_default` serves."""

    signature_def: dict[str, SignatureInfo]


class SignatureMetadata(BaseModel):
    """The metadata of a SavedModel: its signatures."""

    signature_def: SignatureMap


class VersionSpec(BaseModel):
    """The version that is described."""

    name: str
    signature_name: str
    version: str


class SavedModelMetadata(BaseModel):
    """The signatures of a version."""

    model_spec: VersionSpec
    metadata: SignatureMetadata


class ServerLive(BaseModel):
    """The service runs."""

    live: Literal[True]


class ServerReady(BaseModel):
    """The service takes requests."""

    ready: Literal[True]


class ModelReady(BaseModel):
    """The model or the version serves."""

    name: str
    ready: Literal[True]


class ServerMetadata(BaseModel):
    """The service's release, and its extensions of the protocol."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor that a model takes or gives. The -1 at the start of its shape is the batch."""

    name: str
    datatype: Literal["FP32", "INT64"]
    shape: Annotated[list[int], Field(examples=[[-1, 8, 2]])]


class ModelMetadata(BaseModel):
    """The versions of a model that serve, and its tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ConfiguredTensor(BaseModel):
    """A tensor, with its sizes without the batch."""

    name: str
    data_type: Literal["TYPE_FP32", "TYPE_INT64"]
    dims: list[int]


class Batching(BaseModel):
    """How requests share a call of the engine: as they come. No request waits for others."""

    max_queue_delay_microseconds: int


class ModelConfiguration(BaseModel):
    """A model in the form of Triton's configuration."""

    name: str
    platform: str
    version_policy: Annotated[dict[str, Any], Field(examples=[{"latest": {"num_versions": 1}}])]
    max_batch_size: int
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]
    dynamic_batching: Batching


class Duration(BaseModel):
    """How often something was done, and the sum of the times."""

    count: int
    ns: int


class InferenceStatistics(BaseModel):
    """The counts and times of requests and of their stages."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class VersionStatistics(BaseModel):
    """The figures of a version since the start of the service."""

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferenceStatistics
    response_stats: dict[str, Any]
    batch_stats: list[Any]
    memory_usage: list[Any]


class ModelStatistics(BaseModel):
    """The figures of all versions that serve."""

    model_stats: list[VersionStatistics]


class IndexRequest(BaseModel):
    """The versions that the index should list."""

    ready: Annotated[bool, Field(description="Whether to list only versions that serve.")] = False


class IndexEntry(BaseModel):
    """Where a version stands."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str


class RepositoryIndex(RootModel[list[IndexEntry]]):
    """Every version that serves, has served, or should serve."""


Parameters: TypeAlias = dict[str, bool | int | float | str]
JsonDatatype: TypeAlias = Annotated[
    str, Field(json_schema_extra={"enum": [*(datatype for datatype in DATATYPES if datatype not in BINARY_ONLY), TEXT]})
]


class InferInput(BaseModel):
    """A tensor with its numbers, nested as the shape says or in one list."""

    name: str
    shape: list[int]
    datatype: JsonDatatype
    data: list[Any]
    parameters: Parameters = {}


class InferOutput(BaseModel):
    """A tensor with its numbers in one list."""

    name: str
    shape: list[int]
    datatype: Literal["FP32"]
    data: list[float]


class RequestedOutput(BaseModel):
    """A tensor that the answer should have."""

    name: str
    parameters: Parameters = {}


class InferRequest(BaseModel):
    """The tensors that the model takes."""

    id: Annotated[str, Field(description="The caller's id, which the answer repeats.")] = ""
    inputs: list[InferInput]
    outputs: Annotated[
        list[RequestedOutput], Field(description="The tensors that the answer should have; all if none is named.")
    ] = []
    parameters: Parameters = {}


class InferAnswer(BaseModel):
    """The tensors that the model gives."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[InferOutput]
