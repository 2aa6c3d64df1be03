"""Write down what the owners of failed servers read, for the documentation.

    python -m tests.system.fault_table > docs/explanation/faults.md

The error output says how many faults were classified right, and how soon after a failure its owner was told.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path

from .engine_faults import produce_engine_faults
from .fault_report import Reading, faulty_hub, produce
from .faults import FAULTS
from .packages_environment import packages_environment

#: Directories of this machine; only what is in them is the same everywhere.
SOMEWHERE = re.compile(r"(?<![\w/])/(?:[\w.+-]+/){3,}")


def table(readings: dict[str, Reading]) -> str:
    """Return the readings as a table in Markdown, the same on every machine."""
    lines = ["| what went wrong | phase | cause | what the owner reads | and is told to do |", "|---|---|---|---|---|"]
    for reading in readings.values():
        cells = (
            reading.fault.what, reading.failure["phase"], f"`{reading.failure['cause']}`",
            f"**{reading.page.title}.** {reading.page.sentence}", reading.page.next_step,
        )  # fmt: skip
        cleaned = (SOMEWHERE.sub("…/", cell).replace("|", "\\|").replace("<", "&lt;") for cell in cells)
        lines.append(f"| {' | '.join(cleaned)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    began = time.monotonic()
    with faulty_hub() as hub:
        readings = produce(hub, FAULTS)
    with tempfile.TemporaryDirectory() as directory:
        readings |= produce_engine_faults(Path(directory), packages_environment())
    print(table(readings), end="")
    right = sum(reading.failure["cause"] == reading.fault.cause for reading in readings.values())
    slowest = max(reading.told_after for reading in readings.values())
    print(
        f"{right} of {len(readings)} classified right; told at the latest {slowest:.3f} s after the failure; "
        f"{time.monotonic() - began:.1f} s in all",
        file=sys.stderr,
    )
    return 0 if right == len(readings) else 1


if __name__ == "__main__":
    sys.exit(main())
