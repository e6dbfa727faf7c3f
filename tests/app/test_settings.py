"""Settings from the environment and from `.env`."""

from pathlib import Path

import pytest

from app.errors import SettingsError
from app.settings import Settings


@pytest.fixture(autouse=True)
def empty_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(f"WINDOWCAST_{field.upper()}", raising=False)


def test_nothing_needs_to_be_set() -> None:
    settings = Settings.read()
    assert (settings.host, settings.port, settings.models_dir) == ("127.0.0.1", 8000, Path("models"))


def test_the_environment_beats_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("WINDOWCAST_PORT=9001\nWINDOWCAST_MODEL=co2\nOTHER=1\n")
    monkeypatch.setenv("WINDOWCAST_PORT", "9002")
    settings = Settings.read()
    assert (settings.port, settings.model) == (9002, "co2")


@pytest.mark.parametrize(
    ("variable", "nearest"),
    [
        ("WINDOWCAST_PROT", "WINDOWCAST_PORT"),
        ("WINDOWCAST_MODELDIR", "WINDOWCAST_MODELS_DIR"),
        ("windowcast_max_batch_window", "WINDOWCAST_MAX_BATCH_WINDOWS"),
        ("WINDOWCAST_", "WINDOWCAST_"),
    ],
)
def test_an_unknown_variable_is_refused_with_the_nearest_name(
    variable: str, nearest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SettingsError, match=f"^{variable} is not a setting; did you mean {nearest}"):
        Settings.read()


@pytest.mark.parametrize("name", ["MAX_BATCH", "MAX_QUEUE"])
def test_an_old_name_of_a_setting_is_answered_with_the_new_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"WINDOWCAST_{name}_ROWS", "8")
    with pytest.raises(SettingsError, match=rf"^WINDOWCAST_{name}_ROWS is now WINDOWCAST_{name}_WINDOWS; set "):
        Settings.read()


def test_an_unknown_variable_in_the_file_is_refused_with_the_nearest_name() -> None:
    Path(".env").write_text("WINDOWCAST_PROT=9001\n")
    with pytest.raises(SettingsError, match=r"WINDOWCAST_PROT is not a setting; did you mean WINDOWCAST_PORT\?"):
        Settings.read()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "70000"),
        ("PORT", ""),
        ("MODEL", "../secrets"),
        ("MODEL", "a\nb"),
        ("ENGINE", "warp"),
        ("WORKERS", "0"),
        ("MAX_BATCH_WINDOWS", "-1"),
        ("REQUEST_TIMEOUT_SECONDS", "0"),
        ("REQUEST_TIMEOUT_SECONDS", "inf"),
        ("RECEIVE_TIMEOUT_SECONDS", "nan"),
        ("DRAIN_SECONDS", "inf"),
        ("DOCS", "perhaps"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_bad_value_is_refused_with_one_that_works(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"WINDOWCAST_{name}", value)
    default = Settings.model_fields[name.lower()].default
    with pytest.raises(SettingsError) as caught:
        Settings.read()
    sentence = str(caught.value)
    assert sentence.startswith(f"WINDOWCAST_{name}: ")
    assert sentence.endswith(f"; for example {default}.")
    assert "\n" not in sentence
    monkeypatch.setenv(f"WINDOWCAST_{name}", str(default))
    assert getattr(Settings.read(), name.lower()) == default


def test_a_file_that_is_no_text_is_refused() -> None:
    Path(".env").write_bytes(b"WINDOWCAST_PORT=\xff\xfe\n")
    with pytest.raises(SettingsError, match=r"\.env"):
        Settings.read()


def test_settings_do_not_change() -> None:
    settings = Settings.read()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1  # type: ignore[misc]


def test_what_kubernetes_puts_beside_a_service_called_windowcast_is_passed_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {
        "WINDOWCAST_SERVICE_HOST": "10.0.0.7",
        "WINDOWCAST_SERVICE_PORT_HTTP": "80",
        "WINDOWCAST_PORT": "tcp://10.0.0.7:80",
        "WINDOWCAST_PORT_80_TCP_ADDR": "10.0.0.7",
    }.items():
        monkeypatch.setenv(name, value)
    assert Settings.read().port == 8000


@pytest.mark.parametrize("root_path", ["forecast", "/forecast/", "//"])
def test_a_root_path_that_would_not_lead_anywhere_is_refused(root_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDOWCAST_ROOT_PATH", root_path)
    with pytest.raises(SettingsError, match=r"WINDOWCAST_ROOT_PATH: .* for example /forecast"):
        Settings.read()


@pytest.mark.parametrize("key", ["", "short", "fifteen letters", "ä key of sixteen characters"])
def test_a_key_that_is_no_secret_or_fits_no_header_is_refused(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDOWCAST_ADMIN_KEY", key)
    with pytest.raises(SettingsError, match=r"WINDOWCAST_ADMIN_KEY: .*at least 16 characters, all of ASCII") as caught:
        Settings.read()
    assert not key or key not in str(caught.value)


def test_several_workers_could_not_hear_of_a_change_without_a_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WINDOWCAST_ADMIN_KEY", "a key of sixteen characters")
    monkeypatch.setenv("WINDOWCAST_WATCH_SECONDS", "0")
    assert Settings.read().admin_key is not None
    monkeypatch.setenv("WINDOWCAST_WORKERS", "2")
    with pytest.raises(SettingsError, match="with several workers WINDOWCAST_ADMIN_KEY needs"):
        Settings.read()
