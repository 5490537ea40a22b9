"""``python -m tests.own_coverage``: how much of each package its own unit tests run.

Not a floor: it shows where a package is tested by way of others only.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

UNIT = Path(__file__).parent / "unit"


def measured(package: str) -> float:
    """Return the percentage of a package's lines and branches that its own unit tests run."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "COVERAGE_FILE": f"{folder}/data"}
        report = f"{folder}/report.json"
        for command in (
            # A worker is measured from its first import on; this process would not be.
            ["run", "-m", "pytest", "-q", "-n", "1", str(UNIT / package)],
            ["combine", "-q"],
            ["json", "-q", f"--include=revokebus/{package}/*", "-o", report],
        ):
            subprocess.run(
                [sys.executable, "-m", "coverage", *command],
                env=environment,
                check=True,
                capture_output=True,
            )
        return float(json.loads(Path(report).read_text())["totals"]["percent_covered"])


def main() -> None:
    """Print a line for each package."""
    print("covered by its own unit tests:")
    for folder in sorted(path.name for path in UNIT.iterdir() if path.is_dir()):
        if not folder.startswith("_"):
            print(f"  {folder:12} {measured(folder):5.1f} %", flush=True)


if __name__ == "__main__":
    main()
