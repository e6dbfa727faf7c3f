"""README is a front page: short, one sentence first, and true to the tree beneath it."""

import re

from examples.make_load import FILE, main
from tests.pages import README, commands_of, text_of
from tests.servers import ROOT

MAX_BYTES = 8000
TEXT = text_of(README)


def test_the_front_page_is_short() -> None:
    assert len(TEXT.encode()) <= MAX_BYTES


def test_it_opens_with_one_sentence_then_the_command_that_serves() -> None:
    title, sentence, block, *_ = TEXT.split("\n\n")

    assert title == "# Windowcast"
    assert re.fullmatch(r"[^.]+\.", sentence)
    assert block == "```console\n$ make serve\n```"


def test_every_file_in_the_tree_exists() -> None:
    tree = TEXT.split("## What is where")[1].split("```")[1]
    folder = ROOT
    for line in tree.strip().splitlines():
        name = line.split()[0]
        folder = folder if line.startswith(" ") else ROOT / name
        path = folder / name if line.startswith(" ") else folder
        assert path.exists(), line


def test_every_folder_of_the_service_and_of_training_is_in_the_tree() -> None:
    tree = TEXT.split("## What is where")[1]
    for package in ("app", "training"):
        for init in (ROOT / package).glob("*/__init__.py"):
            assert f"\n  {init.parent.name}/ " in tree, init


def test_the_example_is_what_its_script_writes() -> None:
    committed = FILE.read_bytes()
    try:
        main()
        assert FILE.read_bytes() == committed
    finally:
        FILE.write_bytes(committed)


def test_the_first_run_on_a_table_is_on_a_file_that_is_there() -> None:
    [command] = [command for command in commands_of(README) if "training train" in command]
    [path] = re.findall(r"--data (\S+)", command)

    assert (ROOT / path).is_file()
