"""Files are written whole, and what cannot be written is told before the work."""

import os
import stat
from pathlib import Path

import pytest

from training.errors import ConfigError
from training.writing import check_writable, write_whole


def test_a_file_is_written_with_text_or_bytes(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.txt", "°C\n")
    write_whole(tmp_path / "a.png", b"\x89PNG")

    assert (tmp_path / "a.txt").read_bytes() == "°C\n".encode()
    assert (tmp_path / "a.png").read_bytes() == b"\x89PNG"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fill_the_disk(self: Path, content: bytes) -> None:
        with self.open("wb") as file:
            file.write(content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_the_disk)
    with pytest.raises(ConfigError, match=r"a.txt: cannot be written \(No space left on device\); choose another"):
        write_whole(path, "new")

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_keeps_its_permissions_and_a_link_keeps_pointing_to_it(tmp_path: Path) -> None:
    path, link = tmp_path / "a.txt", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path.name)

    write_whole(link, "new")

    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_pipe_is_written_to_directly(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    path = Path(f"/dev/fd/{writing}")

    check_writable(path)
    write_whole(path, "figures")

    assert os.read(reading, 100) == b"figures"
    os.close(reading)
    os.close(writing)


def test_a_check_leaves_no_file_behind_and_an_old_one_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    check_writable(path)
    assert list(tmp_path.iterdir()) == []

    path.write_text("old")
    check_writable(path)
    assert path.read_text() == "old"


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    for path, fact in (
        (tmp_path, "cannot be written (Is a directory); choose another file"),
        (tmp_path / "no/a.txt", "there is no folder"),
    ):
        for write in (check_writable, lambda path: write_whole(path, "new")):
            with pytest.raises(ConfigError) as caught:
                write(path)
            assert fact in str(caught.value)
