"""Publishes tiny versions, on demand or until killed. Imports no TensorFlow, so that it starts in no time.

python -m tests.training.publishing.publisher MODELS_DIR
"""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from app.version.manifest import Contract, Feature, Manifest, Target, digest_files
from training.publishing.publication import building_dir, publish

CONTRACT = Contract(steps=1, features=(Feature(name="a"),), horizon=1, targets=(Target(name="a", scale=1),))
FILES = ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001")


def publish_one(models_dir: Path) -> Path:
    """Publishes a version of model `default` whose files are random bytes."""
    with building_dir(models_dir / "default") as building:
        (building / "variables").mkdir()
        for name in FILES:
            (building / name).write_bytes(os.urandom(10_000))
        manifest = Manifest.foreign("default", datetime.now(UTC), CONTRACT, files=digest_files(building))
        return publish(manifest, building, models_dir / "default")


if __name__ == "__main__":
    sys.stdout.write("publishing\n")
    sys.stdout.flush()
    while True:
        publish_one(Path(sys.argv[1]))
