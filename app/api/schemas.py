"""Bodies and answers of `/v1` and `/v2`, for the documentation only: both protocols read and write them by hand."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, Field, RootModel

from app.payloads.open_inference import BINARY_ONLY, DATATYPES


@dataclass(frozen=True, slots=True)
class About:
    """What the documentation says of a route.

    Attributes:
        summary: What it does, in a sentence.
        answer: Its answer.
        body: Its body, if it takes one.
        is_binary: Whether tensors may stand as bytes behind body and answer.
    """

    summary: str
    answer: type[BaseModel]
    body: type[BaseModel] | None = None
    is_binary: bool = False


class ErrorAnswer(BaseModel):
    """What went wrong."""

    error: str


class ModelNames(BaseModel):
    """The models that serve, the default one first."""

    models: list[str]


class Rows(BaseModel):
    """One value for each row of the batch."""

    instances: Annotated[
        list[Any],
        Field(
            min_length=1,
            description="Lists nested as the input's shape says, or objects of such by the names of several inputs.",
        ),
    ]
    signature_name: Literal["serving_default", ""] = "serving_default"


class Columns(BaseModel):
    """One value for each input, with the batch in front."""

    inputs: Annotated[
        list[Any] | dict[str, list[Any]],
        Field(description="The only input, or an object with a list for each of several."),
    ]
    signature_name: Literal["serving_default", ""] = "serving_default"


class PredictRequest(RootModel[Rows | Columns]):
    """Windows, in rows or in columns."""


class RowForecasts(BaseModel):
    """The answer to rows."""

    predictions: Annotated[list[Any], Field(description="The only output by itself, or objects by name, row by row.")]


class ColumnForecasts(BaseModel):
    """The answer to columns."""

    outputs: Annotated[
        list[Any] | dict[str, list[Any]], Field(description="The only output, or an object with a list for each.")
    ]


class PredictAnswer(RootModel[RowForecasts | ColumnForecasts]):
    """Forecasts, in rows or in columns as the body was."""


class VersionOutcome(BaseModel):
    """Why a version could not be loaded, if that is so."""

    error_code: Literal["OK", "UNKNOWN"]
    error_message: str


class VersionStatus(BaseModel):
    """Where a version stands."""

    version: str
    state: Literal["START", "LOADING", "AVAILABLE", "UNLOADING", "END"]
    status: VersionOutcome


class ModelStatus(BaseModel):
    """Where the versions stand, the highest first."""

    model_version_status: list[VersionStatus]


class Dimension(BaseModel):
    """The size of an axis; -1 is any."""

    size: str
    name: str


class TensorShape(BaseModel):
    """The sizes of all axes."""

    dim: list[Dimension]
    unknown_rank: bool


class TensorInfo(BaseModel):
    """A tensor of the graph."""

    dtype: Annotated[str | int, Field(examples=["DT_FLOAT"])]
    tensor_shape: TensorShape | None = None
    name: str | None = None
    coo_sparse: dict[str, str] | None = None


class SignatureInfo(BaseModel):
    """What a signature takes and gives."""

    inputs: dict[str, TensorInfo]
    outputs: dict[str, TensorInfo]
    method_name: Annotated[str, Field(examples=["tensorflow/serving/predict"])]
    defaults: dict[str, Any]


class SignatureMap(BaseModel):
    """The signatures by name; `serving_default` serves."""

    signature_def: dict[str, SignatureInfo]


class SignatureMetadata(BaseModel):
    """What is known of a SavedModel."""

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
    """That the service runs."""

    live: Literal[True]


class ServerReady(BaseModel):
    """That the service takes requests."""

    ready: Literal[True]


class ModelReady(BaseModel):
    """That a model or a version of it serves."""

    name: str
    ready: Literal[True]


class ServerMetadata(BaseModel):
    """The service's release, and which extensions of the protocol it has."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """A tensor that a model takes or gives; -1 in front of its shape is the batch."""

    name: str
    datatype: Literal["FP32"]
    shape: Annotated[list[int], Field(examples=[[-1, 8, 2]])]


class ModelMetadata(BaseModel):
    """The versions of a model, and its tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ConfiguredTensor(BaseModel):
    """A tensor without the batch."""

    name: str
    data_type: Literal["TYPE_FP32"]
    dims: list[int]


class Batching(BaseModel):
    """How requests are put together: as they come, without waiting for more."""

    max_queue_delay_microseconds: int


class ModelConfiguration(BaseModel):
    """A model as Triton configures it."""

    name: str
    platform: str
    version_policy: Annotated[dict[str, Any], Field(examples=[{"latest": {"num_versions": 1}}])]
    max_batch_size: int
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]
    dynamic_batching: Batching


class Duration(BaseModel):
    """How often something was done, and how long it took altogether."""

    count: int
    ns: int


class InferenceStatistics(BaseModel):
    """How requests fared, and what they took."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class VersionStatistics(BaseModel):
    """The figures of a version since the service began."""

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
    """The figures of versions that serve."""

    model_stats: list[VersionStatistics]


class IndexRequest(BaseModel):
    """Which versions are asked for."""

    ready: Annotated[bool, Field(description="Whether only those that serve.")] = False


class IndexEntry(BaseModel):
    """Where a version stands."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str


class RepositoryIndex(RootModel[list[IndexEntry]]):
    """Every version that serves, served, or should."""


Parameters: TypeAlias = dict[str, bool | int | float | str]
JsonDatatype: TypeAlias = Annotated[
    str, Field(json_schema_extra={"enum": [datatype for datatype in DATATYPES if datatype not in BINARY_ONLY]})
]


class InferInput(BaseModel):
    """A tensor with its numbers, nested as its shape says or in one list."""

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
    """A tensor that the answer shall have."""

    name: str
    parameters: Parameters = {}


class InferRequest(BaseModel):
    """Every tensor that the model takes."""

    id: Annotated[str, Field(description="A word that the answer repeats.")] = ""
    inputs: list[InferInput]
    outputs: Annotated[list[RequestedOutput], Field(description="All, unless some are named.")] = []
    parameters: Parameters = {}


class InferAnswer(BaseModel):
    """The tensors that the model gives."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[InferOutput]
