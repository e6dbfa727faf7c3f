"""The policies' file: read, followed when it changes, and changed without harm to the rest of it."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app.errors import ArtifactError
from app.serving.policies import LATEST_ONE, MAX_FILE_BYTES, MAX_LABELS, Policy, PolicyFile
from app.version import folders
from tests.loops import LIMIT_SECONDS, HeldLoop, run_in_held_loop
from tests.pipes import pipe
from tests.waiting import PATIENCE_SECONDS


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
        (f"[a]\nlatest = {'9' * 5000}", "is not TOML"),
        (f"a = {'[' * 5000}{']' * 5000}", "is not TOML"),
        ("[a]\n" + "".join(f"labels.l{n} = 1\n" for n in range(257)), "a.labels: .* at most 256 items"),
        ("a" + ".a" * 5000 + " = 1", "has more than 4096 points"),
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
    file.path.write_text("#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ArtifactError, match=f"policies.toml: has more than {MAX_FILE_BYTES} bytes; correct the file"):
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
    async def add(number: int) -> None:
        own = PolicyFile(file.path)
        async with own.locked(PATIENCE_SECONDS):
            await asyncio.to_thread(own.change, "a", lambda policy: policy.with_label(f"l{number}", number + 1))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: asyncio.run(add(number)), range(40)))
    file.refresh()
    assert len(file.of("a").labels) == 40
    assert [path.name for path in file.path.parent.iterdir()] == ["policies.toml"]


def test_a_change_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    nowhere = PolicyFile(tmp_path / "nowhere" / "policies.toml")

    async def lock() -> None:
        async with nowhere.locked(PATIENCE_SECONDS):
            pass

    with pytest.raises(ArtifactError, match=r"cannot be written \(No such file or directory\)"):
        nowhere.change("a", lambda policy: policy)
    with pytest.raises(ArtifactError, match=r"cannot be written \(No such file or directory\)"):
        asyncio.run(lock())


def test_who_waits_too_long_for_another_change_is_told(file: PolicyFile) -> None:
    async def lock() -> None:
        async with PolicyFile(file.path).locked(LIMIT_SECONDS):
            pass

    async def lock_twice(loop: HeldLoop) -> None:
        async with file.locked(LIMIT_SECONDS):
            second = asyncio.ensure_future(lock())
            while not second.done():
                await loop.skip()
            with pytest.raises(ArtifactError, match="has been changed by somebody else for 10000 seconds; try again"):
                await second
        await lock()

    run_in_held_loop(lock_twice)


def test_a_change_after_which_the_file_would_be_refused_is_not_made(file: PolicyFile) -> None:
    labels = {f"l{number}": 1 for number in range(MAX_LABELS)}
    file.change("a", lambda policy: policy.model_copy(update={"labels": labels}))
    with pytest.raises(ArtifactError, match=f"a.labels: .* at most {MAX_LABELS} items"):
        file.change("a", lambda policy: policy.with_label("one-more", 1))
    file.refresh()
    assert file.of("a").labels == labels


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
    with pipe(file.path), pytest.raises(ArtifactError, match=r"policies\.toml: is not a file; correct the file"):
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
