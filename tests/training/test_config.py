"""training.config: flags over file over defaults, and mistakes told in one sentence."""

import stat
import tomllib
from pathlib import Path

import pytest

from training.config import TrainingConfig, read_config, shown, write_setting
from training.errors import ConfigError


def write_toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_need_only_a_source() -> None:
    assert read_config(None, {"series": "co2"}) == TrainingConfig(series="co2")


def test_a_flag_beats_the_file_and_the_file_beats_the_default(tmp_path: Path) -> None:
    file = write_toml(tmp_path, 'series = "co2"\nwindow = 52\nepochs = 7\n')

    config = read_config(file, {"epochs": "9"})

    assert (config.window, config.epochs, config.horizon) == (52, 9, 1)


def test_a_source_on_the_command_line_takes_the_place_of_the_files(tmp_path: Path) -> None:
    file = write_toml(tmp_path, 'series = "co2"\nwindow = 52\n')

    config = read_config(file, {"data": "a.csv", "target": "y"})

    assert (config.series, config.data, config.window) == (None, Path("a.csv"), 52)


def test_lists_are_taken_as_one_string_and_as_toml_arrays(tmp_path: Path) -> None:
    file = write_toml(tmp_path, 'data = "a.csv"\ntarget = "close, open"\nunits = [8, 4]\n')

    flags = {"measured_in": "close=CNY/t,volume=lots", "known": "holiday, rate", "calendar": "hour,weekday"}
    config = read_config(file, {"features": "close,open,volume", **flags})

    assert config.target == ("close", "open")
    assert config.features == ("close", "open", "volume")
    assert config.units == (8, 4)
    assert (config.known, config.calendar) == (("holiday", "rate"), ("hour", "weekday"))
    assert config.measured_in == {"close": "CNY/t", "volume": "lots"}


def test_a_stored_configuration_reads_back_as_itself() -> None:
    told = {"known": ("x",), "calendar": ("hour", "yearday")}
    config = TrainingConfig(
        data=Path("a.csv"), target=("y",), units=(3,), measured_in={"y": "m"}, split=(10, 20), **told
    )

    assert TrainingConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("flags", "facts"),
    [
        ({}, ["--data FILE", "--series NAME"]),
        ({"series": "co2", "data": "a.csv", "target": "y"}, ["either --data FILE or --series NAME"]),
        ({"data": "a.csv"}, ["--target"]),
        ({"series": "co2", "window": "0"}, ["--window", "greater than or equal to 1", "30"]),
        ({"series": "co2", "cell": "transformer"}, ["--cell", "'lstm', 'gru' or 'rnn'"]),
        ({"series": "co2", "units": "64,none"}, ["--units: expected auto, or whole numbers from 1", "64,64"]),
        ({"series": "co2", "name": "../up"}, ["--name: expected letters", "default"]),
        ({"series": "co2", "measured_in": "load"}, ["--measured-in: expected a unit", "load=MW"]),
        ({"series": "co2", "dropout": "1"}, ["--dropout", "less than 1"]),
        ({"series": "co2", "clip": "inf"}, ["--clip", "finite number", "for example 1"]),
        ({"series": "co2", "noise": "inf"}, ["--noise"]),
        ({"series": "co2", "noise": "1.5"}, ["--noise", "less than or equal to 1"]),
        ({"series": "co2", "epochs": "1" + 22 * "0"}, ["--epochs", "less than or equal to 1000000"]),
        ({"series": "co2", "units": "64,1000000000"}, ["--units", "64,64"]),
        ({"series": "co2", "forget_bias": "1e300"}, ["--forget-bias", "less than or equal to 100"]),
        ({"series": "co2", "forget_bias": "nan"}, ["--forget-bias"]),
        ({"series": "co2", "dropout": "0.1", "units": "8"}, ["--dropout", "--units", "64,64"]),
        ({"series": "co2", "bidirectional": True, "output": "sequence"}, ["--bidirectional", "--output last"]),
        ({"series": "co2", "skip": True, "output": "sequence"}, ["--skip", "--output last"]),
        ({"series": "co2", "lags": "52", "output": "sequence"}, ["--output sequence", "--lags none"]),
        ({"series": "co2", "lags": "52", "skip": False}, ["--no-skip", "--lags none"]),
        ({"data": "a.csv", "target": "y", "known": "x,y"}, ["--known names 'y'", "target", "known ahead"]),
        ({"data": "a.csv", "target": "y", "known": "x", "output": "sequence"}, ["--known", "--output last"]),
        ({"series": "co2", "calendar": "yearday", "output": "sequence"}, ["--calendar", "--output last"]),
    ],
)
def test_a_flag_that_cannot_be_used_is_told_in_one_sentence(flags: dict[str, object], facts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config(None, flags)

    message = str(caught.value)
    assert "\n" not in message
    assert all(fact in message for fact in facts)


def test_an_unknown_field_in_the_file_is_told_its_nearest_name(tmp_path: Path) -> None:
    file = write_toml(tmp_path, 'series = "co2"\nhorizn = 3\n')

    with pytest.raises(ConfigError, match="horizn: there is no such field; the nearest is horizon"):
        read_config(file, {})


def test_a_value_in_the_file_that_cannot_be_used_names_the_file(tmp_path: Path) -> None:
    file = write_toml(tmp_path, 'series = "co2"\nstride = -1\n')

    with pytest.raises(ConfigError, match=r"run\.toml: stride: .* for example 1"):
        read_config(file, {})


def test_a_file_that_is_not_toml_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.toml: is not TOML: .*line 1"):
        read_config(write_toml(tmp_path, "series: co2"), {})


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "none.toml", {})


@pytest.mark.parametrize(
    ("value", "expected"), [((70, 15, 15), "70,15,15"), ((70.0, 0.5), "70,0.5"), (True, "on"), ("co2", "co2")]
)
def test_values_are_shown_as_one_would_write_them(value: object, expected: str) -> None:
    assert shown(value) == expected


def test_a_setting_is_written_and_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('# mine\nseries = "lesson" # a lesson\nlearning_rate = 0.1 # old\n\n[measured_in]\nlesson = "m"\n')
    file.chmod(0o600)

    write_setting(file, "learning_rate", 0.0025)

    assert file.read_text() == (
        '# mine\nseries = "lesson" # a lesson\nlearning_rate = 0.0025 # old\n\n[measured_in]\nlesson = "m"\n'
    )
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["mine.toml"]


def test_a_setting_that_was_not_there_is_no_unit_of_measure(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('series = "lesson"\n[measured_in]\nlesson = "m"\n')

    write_setting(file, "learning_rate", 1e-5)

    assert tomllib.loads(file.read_text()) == {
        "series": "lesson",
        "learning_rate": 1e-5,
        "measured_in": {"lesson": "m"},
    }


def test_a_file_that_is_absent_is_made_and_one_that_is_broken_is_left(tmp_path: Path) -> None:
    write_setting(tmp_path / "new.toml", "learning_rate", 0.5)
    assert (tmp_path / "new.toml").read_text() == "learning_rate = 0.5\n"

    broken = tmp_path / "broken.toml"
    broken.write_text("units = [")
    for path, fact in ((broken, "is not TOML"), (tmp_path / "no/c.toml", "no folder"), (tmp_path, "cannot be read")):
        with pytest.raises(ConfigError, match=fact):
            write_setting(path, "learning_rate", 0.5)
    assert broken.read_text() == "units = ["


@pytest.mark.parametrize(
    ("changes", "layers"),
    [
        ({}, (64, 64)),
        ({"skip": False}, (64, 64)),
        ({"skip": True}, (32,)),
        ({"skip": True, "dropout": 0.1}, (64, 64)),  # there is something between two layers to drop
        ({"skip": True, "units": "8,4"}, (8, 4)),
    ],
)
def test_a_network_beside_a_linear_path_is_small(changes: dict[str, object], layers: tuple[int, ...]) -> None:
    assert TrainingConfig.model_validate({"series": "co2", **changes}).layers == layers
