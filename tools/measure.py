"""`make measure`: how large the house is and how its rooms hang together, as a Markdown table.

Reads the source of a checkout and runs nothing of it, so that it measures older checkouts too:

    python tools/measure.py [PATH]
"""

import ast
import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path

import grimp

PACKAGES = ("app", "training")
LONG_LINES = 350
"""A file that is longer says why in its first lines, with the words of `REASON`."""
REASON = re.compile(r"\bone file\b|\blong because\b", re.IGNORECASE)
STATE = "state"

LINES = ("files", "lines", "longest function, lines", "most files in a folder", f"files over {LONG_LINES} lines")
"""What the lines of the table are called."""

Row = tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A file of Python.

    Attributes:
        path: Where it is, relative to the checkout.
        text: What it holds.
    """

    path: Path
    text: str

    @cached_property
    def lines(self) -> int:
        """How many lines it has."""
        return len(self.text.splitlines())

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.text)

    @property
    def is_long(self) -> bool:
        """Whether it has more than `LONG_LINES`."""
        return self.lines > LONG_LINES

    @property
    def gives_reason(self) -> bool:
        """Whether its docstring says why the file is as long as it is."""
        return bool(REASON.search(ast.get_docstring(self.tree) or ""))

    def functions(self) -> Iterator[tuple[int, str]]:
        """Lines and `file:name` of every function, from `def` to its end."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield (node.end_lineno or node.lineno) - node.lineno + 1, f"{self.path}:{node.name}"


def main() -> None:
    """Prints the table of the checkout at the path given, or of this one."""
    checkout = Path(sys.argv[1] if sys.argv[1:] else Path(__file__).parents[1]).resolve()
    if not all((checkout / package).is_dir() for package in PACKAGES):
        sys.exit(f"{checkout} is no checkout: it needs the folders {' and '.join(PACKAGES)}.")
    print(report(checkout))


def report(checkout: Path) -> str:
    """Returns the table of a checkout, a column for each package, and beneath it what belongs to no package."""
    by_package = [sources(checkout, package) for package in PACKAGES]
    everything = list(chain.from_iterable(by_package))
    rows = [("measure", *PACKAGES), ("---", *("---:" for _ in PACKAGES))]
    rows += zip(LINES, *(_column(files) for files in by_package), strict=True)
    table = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*table, "", *(f"- {remark}" for remark in _remarks(checkout, everything))])


def sources(checkout: Path, package: str) -> list[Source]:
    """Returns the files of Python in a package, in the order of their paths."""
    return [
        Source(path.relative_to(checkout), path.read_text(encoding="utf-8"))
        for path in sorted((checkout / package).rglob("*.py"))
    ]


def _column(files: Sequence[Source]) -> Row:
    """What is measured of one package, in the order of `LINES`."""
    length, function = max((found for file in files for found in file.functions()), default=(0, "none"))
    folders = [file.path.parent for file in files if file.path.name != "__init__.py"]
    fullest = max(folders, key=folders.count)
    return (
        str(len(files)),
        str(sum(file.lines for file in files)),
        f"{length} ({function})",
        f"{folders.count(fullest)} ({fullest})",
        str(sum(file.is_long for file in files)),
    )


def _remarks(checkout: Path, files: Sequence[Source]) -> Iterator[str]:
    """Whatever is listed or counted once for both packages."""
    for file in sorted((file for file in files if file.is_long), key=lambda file: -file.lines):
        reason = "gives its reason" if file.gives_reason else "gives no reason"
        yield f"over {LONG_LINES} lines: {file.path}, {file.lines}, {reason}"
    circles = import_circles(checkout)
    yield f"circles of imports, typing included: {len(circles)}{_listed(' <-> '.join(each) for each in circles)}"
    keys = state_keys(files)
    yield f'string keys of `scope["state"]`: {len(keys)}{_listed(sorted(keys))}'
    yield f"README: {(checkout / 'README.md').stat().st_size / 1000:.1f} KB"


def _listed(parts: Iterable[str]) -> str:
    """The parts in brackets, if there are any."""
    text = "; ".join(parts)
    return f" ({text})" if text else ""


def import_circles(checkout: Path) -> list[list[str]]:
    """Returns groups of modules that import each other, directly or not; imports for the type checker count too."""
    sys.path.insert(0, str(checkout))
    importlib.invalidate_caches()
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    reached = {module: graph.find_upstream_modules(module) for module in graph.modules}
    groups = {
        frozenset({module, *(other for other in others if module in reached[other])})
        for module, others in reached.items()
    }
    return sorted(sorted(group) for group in groups if len(group) > 1)


def state_keys(files: Sequence[Source]) -> set[str]:
    """Returns the keys that the files read or write in `scope["state"]`, or in a variable called `state`.

    A key that is a constant's name is looked up among the constants of all files.
    """
    constants = dict(constant for file in files for constant in _text_constants(file.tree))
    used = (key for file in files for node in ast.walk(file.tree) for key in _keys_of(node))
    named = (constants.get(key.id, "") if isinstance(key, ast.Name) else _text(key) for key in used)
    return {key for key in named if key}


def _text_constants(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _assigned(target, node.value)


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, str]]:
    """Names that are given a text, in `A = "a"` and in `A, B = "a", "b"`."""
    match target, value:
        case ast.Name(id=name), ast.Constant(value=str(text)):
            yield name, text
        case ast.Tuple(elts=names), ast.Tuple(elts=texts):
            for one, part in zip(names, texts, strict=False):
                yield from _assigned(one, part)


def _keys_of(node: ast.AST) -> Iterator[ast.expr]:
    """The keys in `state[key]`, `state.get(key)` and its like, and `key in state`."""
    match node:
        case ast.Subscript(value=state, slice=key) if _is_state(state):
            yield key
        case ast.Call(func=ast.Attribute(value=state, attr="get" | "pop" | "setdefault"), args=[key, *_]) if _is_state(
            state
        ):
            yield key
        case ast.Compare(left=key, ops=[ast.In() | ast.NotIn()], comparators=[state]) if _is_state(state):
            yield key


def _is_state(node: ast.expr) -> bool:
    match node:
        case ast.Name(id="state"):
            return True
        case ast.Subscript(slice=key):
            return _text(key) == STATE
    return False


def _text(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


if __name__ == "__main__":
    main()
