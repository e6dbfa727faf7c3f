"""Writes into a version's folder `report/`: a page, its figures as PNG, and the numbers behind them.

`report.html` needs no other file and no network: styles and figures stand inside it. Its size is bounded, however many
rows and targets there are; `metrics.json` has every epoch, every step of the sweep and every score.
"""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from app.version.manifest import Manifest
from training.fitting.symptoms import INCIDENT
from training.reporting import canvas
from training.reporting.run import Run
from training.reporting.sections import sections
from training.reporting.tables import contract_tables, facts, score_table, settings_table

REPORT_DIR = "report"

_PAGES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def write_report(version_dir: Path, manifest: Manifest, run: Run) -> None:
    """Writes the report of a version.

    Args:
        version_dir: The version's folder, which has no report yet.
        manifest: What the version says about itself; the report ignores the checksums of its files.
        run: The training run.

    Raises:
        OSError: A file cannot be written.
    """
    folder = version_dir / REPORT_DIR
    folder.mkdir()
    drawn = tuple(sections(run))
    for drawing in (drawing for section in drawn for drawing in section.drawings):
        (folder / f"{drawing.name}.png").write_bytes(canvas.png(drawing.figure))
    page = _PAGES.get_template("report.html").render(
        manifest=manifest,
        verdict=run.evaluation.verdict,
        facts=tuple(facts(manifest, run)),
        settings=settings_table(run.config),
        findings=[finding for finding in manifest.data.findings if finding.kind != INCIDENT],
        incidents=run.history.incidents,
        sections=drawn,
        scores=score_table(manifest.scores),
        contract=manifest.contract,
        tables=contract_tables(manifest.contract),
    )
    (folder / "report.html").write_text(page, encoding="utf-8")
    numbers = json.dumps(_finite(_metrics(manifest, run)), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(f"{numbers}\n", encoding="utf-8")


def _metrics(manifest: Manifest, run: Run) -> dict[str, Any]:
    history = run.history
    return {
        "verdict": asdict(run.evaluation.verdict),
        "scores": [score.model_dump(mode="json") for score in manifest.scores],
        "history": {
            "seconds": history.seconds,
            "start_validation_loss": history.start_loss,
            "best_epoch": history.best.number,
            "epochs": [asdict(epoch) for epoch in history.epochs],
        },
        "incidents": [asdict(incident) for incident in history.incidents],
        "sweep": asdict(run.sweep) if run.sweep else None,
        "data": manifest.data.model_dump(mode="json"),
    }


def _finite(value: Any) -> Any:
    """Replaces every number that is not finite, which JSON cannot hold, by null."""
    match value:
        case dict():
            return {name: _finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_finite(inner) for inner in value]
        case float():
            return value if math.isfinite(value) else None
    return value
