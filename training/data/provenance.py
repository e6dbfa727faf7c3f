"""Where the rows of a data set come from."""

from dataclasses import dataclass, replace

from app.version.manifest import Finding


@dataclass(frozen=True, slots=True)
class Provenance:
    """Says which table a data set was cut from, in the fields that the manifest of a version records.

    Row counts are 0 and names are empty where a data set was put together by hand.

    Attributes:
        source: File name without its folder, or the name of a built-in series.
        sha256: Of the ordered, cleaned numbers as little-endian float64, row by row.
        rows: Number of rows, after cleaning.
        columns: Names of the columns that `sha256` covers.
        first_time: First time in ISO 8601, or a whole number as text; None where rows carry no time.
        last_time: Last time, likewise.
        training_rows: Rows of the training part.
        validation_rows: Rows of the validation part.
        test_rows: Rows of the test part.
        findings: What was found and done, for the user to know.
    """

    source: str = ""
    sha256: str = ""
    rows: int = 0
    columns: tuple[str, ...] = ()
    first_time: str | None = None
    last_time: str | None = None
    training_rows: int = 0
    validation_rows: int = 0
    test_rows: int = 0
    findings: tuple[Finding, ...] = ()

    @property
    def notices(self) -> tuple[str, ...]:
        """The findings in words."""
        return tuple(finding.sentence for finding in self.findings)

    def with_findings(self, *findings: Finding) -> "Provenance":
        """Returns the same provenance with more findings at the end."""
        return replace(self, findings=self.findings + findings)
