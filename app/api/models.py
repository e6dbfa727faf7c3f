"""Descriptions of the models: versions, tensors, contract, scores, verdict, engine."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import Response

from app.api.dependencies import ModelName, RunningService, VersionNumber, find
from app.payloads import native
from app.serving.catalogue import ServedModel, ServedVersion
from app.serving.service import Service
from app.version.manifest import Contract, DataFingerprint, Score
from app.version.signature import DataType, Signature, TensorSpec

router = APIRouter(tags=["models"])


class TensorDescription(BaseModel, use_attribute_docstrings=True):
    """A tensor as `/v1` and `/v2` name it."""

    name: str
    shape: Annotated[tuple[int, ...], Field(description="Its sizes; -1 in front is the batch.", examples=[(-1, 8, 2)])]
    datatype: Annotated[DataType, Field(exclude_if=lambda datatype: datatype == "float32")] = "float32"
    """The type of its numbers; left out for float32."""


class SignatureDescription(BaseModel, use_attribute_docstrings=True):
    """What a model takes and gives under `/v1` and `/v2`."""

    inputs: list[TensorDescription]
    """What the model takes."""
    outputs: list[TensorDescription]
    """What the model gives."""

    @classmethod
    def of(cls, signature: Signature) -> Self:
        """Describes a signature."""
        return cls(inputs=_described(signature.inputs.tensors), outputs=_described(signature.outputs.tensors))


def _described(tensors: Sequence[TensorSpec]) -> list[TensorDescription]:
    return [
        TensorDescription(name=tensor.name, shape=(-1, *tensor.shape), datatype=tensor.datatype) for tensor in tensors
    ]


class ModelDescription(BaseModel, use_attribute_docstrings=True):
    """The description of a model that serves."""

    name: str
    """Its name."""
    version: int
    """The version that is described."""
    versions: Annotated[list[int], Field(description="All that serve, ascending.")]
    labels: Annotated[dict[str, int], Field(description="The version that each label stands for.")]
    tensors: SignatureDescription
    """Its tensors under `/v1` and `/v2`."""
    engine: str
    """What computes it: `onnx` or `tensorflow`."""
    engine_remark: str
    """How the engine computes, and why that engine."""
    created: datetime
    """When it was exported."""
    contract: Contract
    """What goes in and what comes out."""
    scores: tuple[Score, ...]
    """Errors on the test part: the model's and the baselines'."""
    verdict: str
    """How the model compares with the best baseline, in a sentence."""
    data: DataFingerprint
    """What it was trained on."""

    @classmethod
    def of(cls, served: ServedVersion, model: ServedModel) -> Self:
        """Describes a version that serves, and the other versions of its model."""
        loaded = served.loaded
        manifest = loaded.manifest
        return cls(
            name=loaded.name,
            version=loaded.version,
            versions=list(model.versions),
            labels=dict(model.labels),
            tensors=SignatureDescription.of(loaded.signature),
            engine=loaded.engine.name,
            engine_remark=loaded.engine.remark,
            created=manifest.created,
            contract=manifest.contract,
            scores=manifest.scores,
            verdict=manifest.verdict,
            data=manifest.data,
        )


class ModelList(BaseModel, use_attribute_docstrings=True):
    """The models that serve, the default model first, and the failures of versions."""

    models: list[ModelDescription]
    """Each described by the latest version that serves."""
    failures: dict[str, str]
    """Why versions do not serve, by `model/version`."""


class Example(BaseModel, use_attribute_docstrings=True):
    """A body for `/predict` that works."""

    window: list[list[float]]
    """A row per step with a number per feature of the model."""
    future: list[list[float]] | None = None
    """For each row to forecast, its values of the columns that are known ahead; left out if the model takes none."""
    time: int | None = None
    """The number of the first row to forecast; left out if the model takes no time."""


@router.get("/models")
async def list_models(service: RunningService) -> ModelList:
    """Lists the models that serve."""
    service.check_ready()
    described = [ModelDescription.of(model.latest, model) for model in service.catalogue.models().values()]
    return ModelList(models=described, failures=service.repository.statuses.failures())


@router.get("/models/{name}")
async def describe_model(service: RunningService, name: ModelName) -> ModelDescription:
    """Tells a model's versions, tensors, contract, scores, verdict and engine."""
    return _describe(service, name, None)


@router.get("/models/{name}/versions/{version}")
async def describe_version(service: RunningService, name: ModelName, version: VersionNumber) -> ModelDescription:
    """Tells the same of one version."""
    return _describe(service, name, version)


@router.get("/models/{name}/example", response_model=Example)
async def example(service: RunningService, name: ModelName) -> Response:
    """Gives a body for `/predict` that works: inputs recorded when the model was exported."""
    service.check_ready()
    body = native.write_request(find(service.catalogue, name).loaded.golden.inputs)
    return Response(body, media_type="application/json")


def _describe(service: Service, name: str, version: int | None) -> ModelDescription:
    service.check_ready()
    served = find(service.catalogue, name, version)
    model = service.catalogue.model(name) or ServedModel(
        {served.version: served}, {}
    )  # the model may have ended a moment ago
    return ModelDescription.of(served, model)
