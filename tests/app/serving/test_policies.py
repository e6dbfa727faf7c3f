"""The policies' file: read, followed when it changes, and changed without harm to the rest of it."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.errors import ArtifactError
from app.serving.policies import LATEST_ONE, Policy, PolicyFile
from app.version import folders


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PolicyFile:
    """One that settles at once."""
    monkeypatch.setattr(folders, "SETTLING_SECONDS", 0)
    return PolicyFile(tmp_path / "policies.toml")


def test_without_a_file_every_model_follows_its_latest_version(file: PolicyFile) -> None:
    file.refresh()
    assert file.of("any") == LATEST_ONE


def test_a_file_tells_versions_and_labels(file: PolicyFile) -> None:
    file.path.write_text('[a]\nlatest = 2\nlabels = { stable = 3 }\n["b.c"]\nversions = [7, 5]\n[d]\n')
    file.refresh()
    assert file.of("a") == Policy(latest=2, labels={"stable": 3})
    assert file.of("b.c") == Policy(versions=[7, 5])
    assert file.of("d") == Policy()
    assert file.of("e") == LATEST_ONE


def test_a_file_is_read_when_it_has_changed(file: PolicyFile) -> None:
    file.path.write_text("[a]\nlatest = 2\n")
    file.refresh()
    assert file.of("a").latest == 2
    file.path.write_text("[a]\nlatest = 30\n")
    file.refresh()
    assert file.of("a").latest == 30
    file.path.unlink()
    file.refresh()
    assert file.of("a") == LATEST_ONE


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[a", "is not TOML"),
        ("[a]\nlatest = 0", "a.latest: "),
        ("[a]\nlatest = true", "a.latest: "),
        ("[a]\nlatest = 1\nversions = [1]", "a: give either latest or versions"),
        ("[a]\nversions = ['1']", "a.versions.0: "),
        ("[a]\nversions = [0]", "a.versions.0: "),
        ("[a]\nlabel = {}", "a.label: Extra inputs are not permitted"),
        ("[a]\nlabels = { '1' = 1 }", r"a.labels.1.\[key\]: "),
        ("['../a']\nlatest = 1", r"../a.\[key\]: "),
        ("a = 1", "a: "),
    ],
)
def test_a_file_that_is_wrong_is_told_and_changes_nothing(text: str, problem: str, file: PolicyFile) -> None:
    file.path.write_text("[a]\nlatest = 5\n")
    file.refresh()
    file.path.write_text(text)
    for _ in range(2):
        with pytest.raises(ArtifactError, match=f"policies.toml: {problem}.*; correct the file"):
            file.refresh()
    assert file.of("a").latest == 5


def test_bytes_that_are_no_text_are_told(file: PolicyFile) -> None:
    file.path.write_bytes(b"\xff[a]")
    with pytest.raises(ArtifactError, match="is not TOML"):
        file.refresh()


def test_a_file_too_large_to_be_one_is_not_read(file: PolicyFile) -> None:
    file.path.write_text("#" * (2**20 + 1))
    with pytest.raises(ArtifactError, match="has more than 1048576 bytes"):
        file.refresh()


def test_a_change_leaves_the_rest_of_the_file_as_it_is(file: PolicyFile) -> None:
    file.path.write_text("# kept\n[a]\nlatest = 2  # kept too\n\n[b]\nversions = [1]\nlabels = { stable = 1 }\n")
    file.change("b", lambda policy: policy.with_label("canary", 2))
    assert file.path.read_text().startswith("# kept\n[a]\nlatest = 2  # kept too\n")
    file.refresh()
    assert file.of("b") == Policy(versions=[1], labels={"stable": 1, "canary": 2})
    file.change("b", lambda policy: policy.without_label("stable").without_label("never there"))
    file.change("c", lambda policy: policy.with_label("stable", 1))
    file.refresh()
    assert file.of("b").labels == {"canary": 2}
    assert file.of("c") == Policy(latest=1, labels={"stable": 1})


def test_an_empty_list_of_versions_is_kept_as_one(file: PolicyFile) -> None:
    file.change("a", lambda _: Policy(versions=[]))
    file.refresh()
    assert file.of("a").versions == []


def test_changes_at_the_same_time_are_all_kept(file: PolicyFile) -> None:
    def add(number: int) -> None:
        PolicyFile(file.path).change("a", lambda policy: policy.with_label(f"l{number}", number + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    file.refresh()
    assert len(file.of("a").labels) == 40
    assert [path.name for path in file.path.parent.iterdir()] == ["policies.toml"]


def test_a_change_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    file = PolicyFile(tmp_path / "nowhere" / "policies.toml")
    with pytest.raises(ArtifactError, match=r"cannot be written \(No such file or directory\)"):
        file.change("a", lambda policy: policy)


def test_a_file_that_is_wrong_is_not_written_over(file: PolicyFile) -> None:
    file.path.write_text("[a")
    with pytest.raises(ArtifactError, match="is not TOML"):
        file.change("a", lambda policy: policy)
    assert file.path.read_text() == "[a"


def test_a_file_that_is_being_written_is_left_alone(file: PolicyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.path.write_text("[a]\nlatest = 5\n")
    file.refresh()
    monkeypatch.setattr(folders, "SETTLING_SECONDS", 60)
    file.path.write_text("")
    file.refresh()
    assert file.of("a").latest == 5
    file.refresh(at_once=True)
    assert file.of("a") == LATEST_ONE


def test_a_folder_that_vanishes_with_the_file_changes_nothing(tmp_path: Path) -> None:
    file = PolicyFile(tmp_path / "models" / "policies.toml")
    file.path.parent.mkdir()
    file.path.write_text("[a]\nlatest = 5\n")
    file.refresh(at_once=True)
    file.path.parent.rename(tmp_path / "away")
    file.refresh(at_once=True)
    assert file.of("a").latest == 5


def test_what_is_no_file_is_told(file: PolicyFile) -> None:
    os.mkfifo(file.path)
    with pytest.raises(ArtifactError, match="is not a file"):
        file.refresh()
    file.path.unlink()
    file.path.mkdir()
    with pytest.raises(ArtifactError, match="is not a file"):
        file.refresh()


def test_a_link_to_the_file_stays_one(file: PolicyFile, tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_text("# kept\n")
    file.path.symlink_to("real.toml")
    file.change("a", lambda policy: policy.with_label("stable", 1))
    assert file.path.is_symlink()
    assert (tmp_path / "real.toml").read_text().startswith("# kept\n")
    file.refresh()
    assert file.of("a").labels == {"stable": 1}
