"""What annotated types for pydantic models have in common: their schema, their contract, and errors with places."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
from pydantic import ValidationError, ValidationInfo
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from app.errors import MAX_LOCATED_ERRORS
from app.payloads.axes import Problem
from app.version.manifest import Contract


def array_schema(validate: Callable[[object, ValidationInfo], Any]) -> CoreSchema:
    """Returns the schema of a field whose value becomes an array, which is written as nested lists."""
    return core_schema.with_info_plain_validator_function(
        validate, serialization=core_schema.plain_serializer_function_ser_schema(np.ndarray.tolist)
    )


def contract_in(info: ValidationInfo) -> Contract | None:
    """Returns the contract of the model that is asked, if the validation has one as its context."""
    return info.context if isinstance(info.context, Contract) else None


def check_none(problems: Iterator[Problem]) -> None:
    """Checks that there are no problems. Raises the first ones as errors of the field that is being validated."""
    errors = [
        InitErrorDetails(type=field_error(text), loc=place, input=None)
        for place, text in islice(problems, MAX_LOCATED_ERRORS)
    ]
    if errors:
        raise ValidationError.from_exception_data("tensor", errors)


def field_error(text: str) -> PydanticCustomError:
    """Returns the error of the field that is being validated."""
    return PydanticCustomError("tensor", text)
