"""The pinned requirements hold what pyproject.toml asks for, each file for its own purpose."""

import re
import tomllib

import pytest

from tests.servers import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]


def names(requirements: list[str]) -> set[str]:
    """Names of packages, of our own extras those that are in them."""
    found: set[str] = set()
    for requirement in requirements:
        name, extras = re.match(r"([\w-]+)(?:\[([\w,-]+)\])?", requirement).groups()  # type: ignore[union-attr]
        if name == PROJECT["name"]:
            found |= names([inner for extra in extras.split(",") for inner in EXTRAS[extra]])
        else:
            found.add(name)
    return found


@pytest.mark.parametrize(
    ("file", "extras"),
    [
        ("serving", []),
        ("onnx", ["onnx"]),
        ("tensorflow", ["onnx", "tensorflow"]),
        ("training", ["training"]),
        ("development", ["dev"]),
    ],
)
def test_every_package_is_pinned(file: str, extras: list[str]) -> None:
    text = (ROOT / "requirements" / f"{file}.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([\w-]+)==", text, flags=re.MULTILINE))

    needed = names(PROJECT["dependencies"] + [package for extra in extras for package in EXTRAS[extra]])
    assert needed <= pinned, needed - pinned
    assert ("tensorflow-cpu" in pinned) == ("tensorflow-cpu" in needed)
