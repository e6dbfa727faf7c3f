"""Files are opened only if they are files, and folders are looked through only so far."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from app.errors import ArtifactError
from app.version import files
from app.version.files import contents, open_file, read_file
from tests.pipes import pipe


def test_a_file_and_a_link_to_a_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("real")
    for name in ("real", "link"):
        assert read_file(tmp_path / name, 3) == b"abc"
        with open_file(tmp_path / name) as file:
            assert file.read() == b"abc"


def test_a_file_of_more_bytes_than_are_taken_is_refused(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"abcd")
    with pytest.raises(ArtifactError, match="large: has more than 3 bytes"):
        read_file(tmp_path / "large", 3)


def test_a_large_file_is_not_read_before_it_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as file:
        file.truncate(2**40)  # a terabyte that takes no room
    with pytest.raises(ArtifactError, match="has more than 1000 bytes"):
        read_file(tmp_path / "large", 1000)


def test_a_pipe_is_no_file_and_nobody_waits_for_its_writer(tmp_path: Path) -> None:
    with pipe(tmp_path / "pipe"), pytest.raises(ArtifactError, match="pipe: is not a file"):
        open_file(tmp_path / "pipe")


def make_folder(path: Path) -> None:
    path.mkdir()


def make_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.path.relpath(path))  # the address of a socket is short


def link_to_a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [make_folder, make_socket, link_to_a_device])
def test_what_is_no_file_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "odd")
    with pytest.raises(ArtifactError, match="odd: is not a file"):
        read_file(tmp_path / "odd", 10)


def test_a_folder_is_looked_through_to_the_last_file_with_links_to_files(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("a/b/c")
    (tmp_path / "folder").symlink_to("a")
    (tmp_path / "nothing").symlink_to("nowhere")
    found = {path.relative_to(tmp_path).as_posix(): status.st_size for path, status in contents(tmp_path)}
    assert found.keys() == {"a", "a/b", "a/b/c", "folder", "link"}
    assert found["link"] == found["a/b/c"] == 3


def test_folders_without_number_are_not_counted_to_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_ENTRIES", 3)
    for number in range(3):
        (tmp_path / str(number)).mkdir()
    assert len(contents(tmp_path)) == 3
    (tmp_path / "2" / "one more").touch()
    with pytest.raises(ArtifactError, match="holds more than 3 files and folders"):
        contents(tmp_path)


def test_folders_in_one_another_end_where_the_system_takes_no_longer_path(tmp_path: Path) -> None:
    handle = os.open(tmp_path, os.O_RDONLY)
    name = 200 * "n"
    for _ in range(25):
        os.mkdir(name, dir_fd=handle)
        inner = os.open(name, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = inner
    os.close(handle)
    with pytest.raises(OSError, match="File name too long"):
        contents(tmp_path)
