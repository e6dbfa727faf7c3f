"""The pages that people read, and the blocks of code on them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers import ROOT

DOCS = ROOT / "docs"
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
PAGES = [README, CONTRIBUTING, *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^(?P<marks>(?:<!-- .* -->\n)*)```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A command in a console block.

    Attributes:
        text: What the reader types.
        shown: The lines that the page says come out, perhaps with others between them.
    """

    text: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        language: What stands behind its fence: `console`, `python` or something else.
        text: What is in it.
        needs: What a mark `<!-- needs: docker -->` says that it needs; None without a mark.
        exit_code: What a mark `<!-- exits with 2 -->` says that its last command exits with.
    """

    language: str
    text: str
    needs: str | None
    exit_code: int

    @property
    def commands(self) -> list[Command]:
        """The commands of a console block."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        return [Command(command, tuple(shown)) for command, *shown in (part.splitlines() for part in parts)]


def name_of(page: Path) -> str:
    """The page's path as people write it."""
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, from top to bottom."""
    for match in BLOCK.finditer(text_of(page)):
        needs = re.search(r"<!-- needs: (.+) -->", match["marks"])
        exits = re.search(r"<!-- exits with (\d+) -->", match["marks"])
        yield Block(match["language"], match["text"], needs[1] if needs else None, int(exits[1]) if exits else 0)


def commands_of(page: Path) -> list[str]:
    """All that a page has its readers type into a console, whatever it needs."""
    return [command.text for block in blocks_of(page) if block.language == "console" for command in block.commands]
