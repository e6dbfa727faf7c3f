"""What a version says about itself, and whether its files agree."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.errors import ArtifactError
from app.version.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    MAX_MANIFEST_PARTS,
    NAME_PATTERN,
    VERSION_PATTERN,
    Contract,
    Frequency,
    FrequencyUnit,
    Manifest,
    Phase,
    Score,
    digest_files,
    file_sha256,
)
from tests.versions import contract_of


def test_a_manifest_is_read_back_as_it_was_written(version_dir: Path, contract: Contract) -> None:
    manifest = Manifest.read(version_dir)
    assert manifest.contract == contract
    assert Manifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_a_manifest_of_a_later_release_may_say_more(version_dir: Path) -> None:
    _edit(version_dir, lambda manifest: manifest.update(mood="sunny"))
    assert Manifest.read(version_dir).name == "default"


def test_a_manifest_of_an_earlier_release_says_nothing_of_twins(version_dir: Path) -> None:
    assert b"twin" not in (version_dir / MANIFEST_FILE).read_bytes()
    manifest = Manifest.read(version_dir)
    assert (manifest.has_twin, manifest.no_twin) == (False, None)


def test_a_foreign_manifest_says_that_nothing_is_known() -> None:
    manifest = Manifest.foreign("notebook", datetime(2026, 1, 2, tzinfo=UTC), contract_of(), files={"a": "0" * 64})

    assert manifest.data.model_dump(exclude_defaults=True) == {"source": "unknown: made elsewhere"}
    assert manifest.verdict == "Unknown: made elsewhere."
    assert (manifest.config, manifest.versions, manifest.scores) == ({}, {}, ())
    assert manifest.files == {"a": "0" * 64}


def test_a_score_of_an_earlier_release_has_two_errors() -> None:
    earlier = {"forecaster": "model", "mae": 1.0, "rmse": 2.0}

    assert Score.model_validate(earlier).model_dump() == earlier


def test_a_contract_of_an_earlier_release_has_its_frequency_in_words_alone(version_dir: Path) -> None:
    _edit(version_dir, lambda manifest: manifest["contract"].pop("spacing"))

    contract = Manifest.read(version_dir).contract

    assert (contract.frequency, contract.spacing) == ("1 hour", None)
    assert "spacing" not in contract.model_dump()


def test_a_contract_has_the_distance_of_its_rows_as_count_and_unit() -> None:
    dumped = contract_of().model_dump(mode="json")

    assert (dumped["frequency"], dumped["spacing"]) == ("1 hour", {"count": 1, "unit": "hour"})


@pytest.mark.parametrize("spacing", [{"count": 0, "unit": "hour"}, {"count": 1, "unit": "hours"}, {"count": 1}])
def test_a_frequency_that_is_none_is_refused(spacing: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Frequency.model_validate(spacing)


@given(st.builds(Frequency, count=st.integers(1, 10**6), unit=st.sampled_from(get_args(FrequencyUnit))))
def test_the_words_of_a_frequency_tell_its_count_and_its_unit(frequency: Frequency) -> None:
    count, _, unit = frequency.words.partition(" ")

    assert int(count) == frequency.count
    assert unit == (frequency.unit if frequency.count == 1 else f"{frequency.unit}s")
    assert Frequency.model_validate_json(frequency.model_dump_json()) == frequency


DAY = Phase(name="day", rows=24)


def test_a_contract_that_takes_windows_alone_says_nothing_of_more() -> None:
    written = contract_of().model_dump_json()
    assert "known" not in written
    assert "calendar" not in written
    assert contract_of().takes_windows_alone


def test_a_contract_says_what_is_known_ahead_and_which_cycles_are_in_the_graph() -> None:
    year = Phase(name="year", rows=8766 * 4, per=4)
    contract = with_more(known=("temp",), calendar=(DAY, year))

    again = Contract.model_validate_json(contract.model_dump_json())

    assert (again, again.known, again.future_shape) == (contract, ("temp",), (2, 1))
    assert [(phase.name, phase.rows, phase.per) for phase in again.calendar] == [("day", 24, 1), ("year", 35064, 4)]
    assert not again.takes_windows_alone
    assert not with_more(known=("temp",)).takes_windows_alone
    assert not with_more(calendar=(DAY,)).takes_windows_alone


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"known": ("wind",)}, "known names a column twice, or a column that is no feature"),
        ({"known": ("temp", "temp")}, "known names a column twice, or a column that is no feature"),
        ({"calendar": (DAY,), "spacing": None}, "a calendar needs the spacing, whose rows it counts"),
        ({"known": ("temp", "load"), "horizon": 2**20 + 1}, "a future has 1048577 x 2 numbers"),
        ({"calendar": ({"name": "day", "rows": 0},)}, "greater than or equal to 1"),
        ({"calendar": (DAY,) * 65}, "at most 64 items"),
    ],
    ids=str,
)
def test_a_contract_that_could_not_be_asked_is_refused(more: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        with_more(**more)


def with_more(**more: Any) -> Contract:
    """The contract of `contract_of` with other or further fields."""
    return Contract.model_validate({**contract_of().model_dump(), **more})


def test_a_file_that_the_caller_looks_at_itself_is_passed_over(version_dir: Path) -> None:
    (version_dir / "saved_model.pb").write_bytes(b"")
    Manifest.read(version_dir).check_files(version_dir, but={"saved_model.pb"})


def test_every_file_but_the_manifest_has_its_checksum(version_dir: Path) -> None:
    names = {path.relative_to(version_dir).as_posix() for path in version_dir.rglob("*") if path.is_file()}
    manifest = Manifest.read(version_dir)
    assert set(manifest.files) == names - {MANIFEST_FILE}
    assert manifest.files == digest_files(version_dir)
    manifest.check_files(version_dir)


def test_the_checksum_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_flipped_bit_is_found(version_dir: Path) -> None:
    manifest = Manifest.read(version_dir)
    for name in manifest.files:
        path = version_dir / name
        sound = path.read_bytes()
        path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        with pytest.raises(ArtifactError, match=f"{re.escape(str(path))}: has changed since the export"):
            manifest.check_files(version_dir)
        path.write_bytes(sound)


def test_a_file_is_read_only_as_it_was_recorded(version_dir: Path) -> None:
    manifest, path = Manifest.read(version_dir), version_dir / "saved_model.pb"
    sound = path.read_bytes()
    assert manifest.read_file(version_dir, "saved_model.pb", 2**20) == sound

    path.write_bytes(sound[1:])
    with pytest.raises(ArtifactError, match=r"saved_model\.pb: has changed since the export"):
        manifest.read_file(version_dir, "saved_model.pb", 2**20)

    path.unlink()
    with pytest.raises(ArtifactError, match=r"saved_model\.pb: the file is missing"):
        manifest.read_file(version_dir, "saved_model.pb", 2**20)

    path.mkdir()
    with pytest.raises(ArtifactError, match=r"saved_model\.pb: is not a file"):
        manifest.read_file(version_dir, "saved_model.pb", 2**20)


def test_a_missing_file_is_named(version_dir: Path) -> None:
    (version_dir / "saved_model.pb").unlink()
    with pytest.raises(ArtifactError, match=r"saved_model\.pb: the file is missing"):
        Manifest.read(version_dir).check_files(version_dir)


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.index", "assets.extra/golden.npz"])
def test_a_file_that_the_manifest_does_not_vouch_for_is_named(version_dir: Path, name: str) -> None:
    _edit(version_dir, lambda manifest: manifest["files"].pop(name))
    with pytest.raises(ArtifactError, match=re.escape(f"{name}: is not listed in manifest.json")):
        Manifest.read(version_dir).check_files(version_dir)


def test_what_a_file_manager_leaves_behind_does_no_harm(version_dir: Path) -> None:
    (version_dir / ".DS_Store").touch()
    Manifest.read(version_dir).check_files(version_dir)


def test_a_version_without_manifest_was_not_finished(version_dir: Path) -> None:
    (version_dir / MANIFEST_FILE).unlink()
    with pytest.raises(ArtifactError, match=r"manifest\.json: the manifest is missing.*export the version again"):
        Manifest.read(version_dir)


def test_a_file_that_cannot_be_read_is_named(version_dir: Path) -> None:
    (version_dir / "saved_model.pb").unlink()
    (version_dir / "saved_model.pb").mkdir()
    with pytest.raises(ArtifactError, match=r"saved_model\.pb: is not a file; export"):
        Manifest.read(version_dir).check_files(version_dir)
    (version_dir / MANIFEST_FILE).unlink()
    (version_dir / MANIFEST_FILE).mkdir()
    with pytest.raises(ArtifactError, match=r"manifest\.json: is not a file"):
        Manifest.read(version_dir)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": 1}'])
def test_what_is_no_manifest_is_refused(version_dir: Path, content: bytes) -> None:
    (version_dir / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(ArtifactError, match=r"manifest\.json: is not a manifest: "):
        Manifest.read(version_dir)


def test_a_manifest_larger_than_any_is_not_parsed(version_dir: Path) -> None:
    path = version_dir / MANIFEST_FILE
    path.write_bytes(path.read_bytes() + b" " * MAX_MANIFEST_BYTES)
    with pytest.raises(ArtifactError, match=rf"manifest\.json: has more than {MAX_MANIFEST_BYTES} bytes"):
        Manifest.read(version_dir)


@pytest.mark.parametrize("part", ["[],", "{},", "0,"])
def test_a_manifest_of_more_parts_than_any_is_not_parsed(part: str, version_dir: Path) -> None:
    path = version_dir / MANIFEST_FILE
    config = f'"config":{{"a":[{part * MAX_MANIFEST_PARTS}0]}}'
    path.write_text(path.read_text().replace('"config":{}', config))
    with pytest.raises(ArtifactError, match=f"is not a manifest: it has more than {MAX_MANIFEST_PARTS} parts"):
        Manifest.read(version_dir)


def test_a_manifest_nested_without_end_is_refused(version_dir: Path) -> None:
    path = version_dir / MANIFEST_FILE
    depth = MAX_MANIFEST_PARTS // 4
    path.write_text(path.read_text().replace('"config":{}', f'"config":{{"a":{"[" * depth}{"]" * depth}}}'))
    with pytest.raises(ArtifactError, match=r"is not a manifest: the file: .*recursion limit"):
        Manifest.read(version_dir)


@pytest.mark.parametrize("name", ["/etc/passwd", "../2/saved_model.pb", "variables/../../x"])
def test_a_manifest_that_lists_a_file_elsewhere_is_refused(name: str, version_dir: Path) -> None:
    _edit(version_dir, lambda manifest: manifest["files"].update({name: "0" * 64}))
    with pytest.raises(ArtifactError, match=r"manifest\.json: lists a file outside the version's folder"):
        Manifest.read(version_dir).check_files(version_dir)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"steps": 10**9}, "contract.steps: .* less than or equal to 2097152"),
        ({"horizon": 10**4000}, "contract.horizon: "),
        ({"steps": 2**20 + 1}, "contract: a window has 1048577 x 2 numbers, but at most 2097152 are served"),
        ({"horizon": 2**21, "targets": [{"name": name, "scale": 1} for name in "ab"]}, "contract: a forecast has "),
        ({"features": [{"name": "a", "minimum": 0, "maximum": 1e308}]}, "contract.features.0: a ranges from 0 to 1e"),
        ({"features": [{"name": "a", "minimum": -2e38, "maximum": 2e38}]}, ".*and float32 cannot hold as much again"),
        ({"features": [{"name": "a", "minimum": None, "maximum": -3e38}]}, ".*and float32 cannot hold as much again"),
        ({"features": [{"name": "a"}, {"name": "a"}]}, "contract: two features or two targets have the same name"),
        ({"targets": [{"name": "a", "scale": 0}]}, "contract.targets.0.scale: "),
    ],
)
def test_a_contract_that_no_service_could_prove_is_refused(
    change: dict[str, Any], problem: str, version_dir: Path
) -> None:
    path = version_dir / MANIFEST_FILE
    manifest = json.loads(path.read_bytes())
    manifest["contract"].update(change)
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=f"is not a manifest: {problem}"):
        Manifest.read(version_dir)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_contract_has_finite_numbers(number: str, version_dir: Path) -> None:
    path = version_dir / MANIFEST_FILE
    sound = path.read_text()
    for field in ('"scale":1.0', '"minimum":0.0', '"maximum":1.0'):
        assert field in sound
        path.write_text(sound.replace(field, f"{field.partition(':')[0]}:{number}", 1))
        with pytest.raises(ArtifactError, match="is not a manifest: contract"):
            Manifest.read(version_dir)


def test_a_manifest_of_an_unknown_format_is_refused_by_name(version_dir: Path) -> None:
    _edit(version_dir, lambda manifest: manifest.update(format=2))
    with pytest.raises(ArtifactError, match="is not a manifest: format: "):
        Manifest.read(version_dir)


@pytest.mark.parametrize("change", [{"steps": 0}, {"horizon": 0}, {"features": ()}, {"targets": ()}])
def test_a_contract_has_at_least_one_of_everything(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Contract.model_validate(contract_of().model_dump() | change)


def test_a_contract_tells_names_and_shapes() -> None:
    contract = contract_of(steps=4, features=("load", "temp", "wind"), horizon=3, targets=2)
    assert contract.window_shape == (4, 3)
    assert contract.forecast_shape == (3, 2)
    assert contract.feature_names == ("load", "temp", "wind")
    assert contract.target_names == ("load", "temp")
    assert contract.target_scales == (1, 1)


@pytest.mark.parametrize("name", ["a", "0", "co2-weekly", "A.b_c-9", "x" * 64])
def test_sound_names(name: str) -> None:
    assert re.fullmatch(NAME_PATTERN, name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".hidden", "-x", "a/b", "a\\b", "a b", "ä", "x" * 65, "a\x00", "a\r\nb"]
)
def test_names_that_could_leave_the_folder_or_the_header(name: str) -> None:
    assert not re.fullmatch(NAME_PATTERN, name)


@pytest.mark.parametrize("version", ["", "0", "01", "-1", "+1", "1.0", "1e3", "v1", "٣", "9" * 19])
def test_versions_are_whole_numbers_from_one(version: str) -> None:
    assert not re.fullmatch(VERSION_PATTERN, version)


def _edit(version_dir: Path, change: Any) -> None:
    path = version_dir / MANIFEST_FILE
    manifest = orjson.loads(path.read_bytes())
    change(manifest)
    path.write_bytes(orjson.dumps(manifest))
