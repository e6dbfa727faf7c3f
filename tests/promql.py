"""As much of PromQL as dashboards and alerts here need, read strictly: what does not fit the metrics is an error."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<range>\[(?:\d+[smhdw])+\])
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
      | (?P<sign>=~|!~|!=|==|>=|<=|[-+*/%^<>=(){},])
    )""",
    re.VERBOSE,
)
AGGREGATIONS = {"sum", "min", "max", "avg", "count"}
RATES = {"rate", "irate", "increase"}
MATCHERS = {"=", "!=", "=~", "!~"}
PRECEDENCE = [{"or"}, {"and", "unless"}, {"==", "!=", ">", "<", ">=", "<="}, {"+", "-"}, {"*", "/", "%"}, {"^"}]
TARGET_LABELS = frozenset({"job", "instance"})
"""Labels that Prometheus itself gives to whatever it scrapes."""

Labels = frozenset[str]


class BadQuery(Exception):
    """A query that cannot be computed, or not from these metrics."""


@dataclass
class Query:
    """A query as it was read.

    Attributes:
        labels: The labels of its result; None if it is a single number.
        selected: Each metric that it reads, and each matcher on it: label, operator, text.
    """

    labels: Labels | None = None
    selected: list[tuple[str, list[tuple[str, str, str]]]] = field(default_factory=list)


def check(text: str, metrics: Mapping[str, Labels]) -> Query:
    """Reads a query.

    Args:
        text: The query, without variables.
        metrics: Names of all samples, with their labels.

    Raises:
        BadQuery: It is not PromQL, or reads a metric or label that is not there.
    """
    reader = _Reader(_tokens(text), metrics)
    reader.query.labels = reader.read_binary(0)
    reader.expect("end", "")
    return reader.query


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens, position, text = [], 0, text.rstrip()
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise BadQuery(f"cannot be read from {text[position:]!r} on")
        tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
        position = match.end()
    return [*tokens, ("end", "")]


class _Reader:
    def __init__(self, tokens: list[tuple[str, str]], metrics: Mapping[str, Labels]) -> None:
        self._tokens = tokens
        self._metrics = metrics
        self.query = Query()

    def _take(self) -> tuple[str, str]:
        return self._tokens.pop(0)

    def _is_next(self, *texts: str) -> bool:
        kind, text = self._tokens[0]
        return kind in {"name", "sign"} and text in texts

    def expect(self, kind: str, *texts: str) -> str:
        found, text = self._take()
        if found != kind or (texts and text not in texts):
            raise BadQuery(f"expected {' or '.join(texts) or kind}, got {text or found!r}")
        return text

    def read_binary(self, level: int) -> Labels | None:
        """Operators, those that bind least first."""
        if level == len(PRECEDENCE):
            return self._read_operand()
        left = self.read_binary(level + 1)
        while self._is_next(*PRECEDENCE[level]):
            _, operator = self._take()
            right = self.read_binary(level + 1)
            if left is None:
                left = right
            elif right is not None and left != right:
                raise BadQuery(f"{operator} between {sorted(left)} and {sorted(right)} matches nothing")
        return left

    def _read_operand(self) -> Labels | None:
        kind, text = self._take()
        if kind == "number":
            return None
        if (kind, text) == ("sign", "("):
            labels = self.read_binary(0)
            self.expect("sign", ")")
            return labels
        if kind != "name":
            raise BadQuery(f"expected a value, got {text or kind!r}")
        if text in AGGREGATIONS:
            return self._read_aggregation()
        if self._is_next("("):
            return self._read_call(text)
        labels = self._read_selector(text)
        if self._tokens[0][0] == "range":
            raise BadQuery(f"{text} over a range is no value")
        return labels

    def _read_aggregation(self) -> Labels:
        by = self._read_names() if self._is_next("by") else frozenset()
        self.expect("sign", "(")
        labels = self.read_binary(0)
        self.expect("sign", ")")
        if self._is_next("by"):
            by = self._read_names()
        if labels is None or not by <= labels:
            raise BadQuery(f"by {sorted(by)}, but there is only {sorted(labels or ())}")
        return by

    def _read_names(self) -> Labels:
        self.expect("name", "by")
        self.expect("sign", "(")
        names = {self.expect("name")}
        while self.expect("sign", ",", ")") == ",":
            names.add(self.expect("name"))
        return frozenset(names)

    def _read_call(self, function: str) -> Labels | None:
        self.expect("sign", "(")
        labels: Labels | None = None
        if function in RATES:
            metric = self.expect("name")
            labels = self._read_selector(metric)
            self.expect("range")
            if not metric.endswith(("_total", "_bucket", "_sum", "_count")):
                raise BadQuery(f"{function} of {metric}, which is no counter")
        elif function == "histogram_quantile":
            if not 0 < float(self.expect("number")) < 1:
                raise BadQuery("a quantile lies between 0 and 1")
            self.expect("sign", ",")
            labels = self.read_binary(0)
            if labels is None or "le" not in labels:
                raise BadQuery("histogram_quantile needs le")
            labels -= {"le"}
        elif function != "time":
            raise BadQuery(f"{function} is not known here")
        self.expect("sign", ")")
        return labels

    def _read_selector(self, metric: str) -> Labels:
        if metric not in self._metrics:
            raise BadQuery(f"there is no {metric}")
        matchers = []
        if self._is_next("{"):
            self._take()
            while not self._is_next("}"):
                matchers.append((self.expect("name"), self.expect("sign", *MATCHERS), self.expect("string")[1:-1]))
                if not self._is_next("}"):
                    self.expect("sign", ",")
            self._take()
        labels = self._metrics[metric] | TARGET_LABELS
        for label, _, _ in matchers:
            if label not in labels:
                raise BadQuery(f"{metric} has no label {label}")
        self.query.selected.append((metric, matchers))
        return labels
