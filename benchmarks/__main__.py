"""Measure the Hub: start-up, memory, what it adds to a start, restart with many servers.

    python -m benchmarks [--upstream BIN[:BIN...]] [--case cold_start,memory,real_spawn,restart] [--repetitions 5]

`--upstream` names directories to put before PATH, in which an installed JupyterHub 6 and its proxy are found; both are
then measured in turn, so that a busy machine hits them alike. Compare ratios; trust CPU times more than wall times.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from statistics import median

from . import hub

CASES = {
    "cold_start": hub.cold_start,
    "memory": hub.memory,
    "real_spawn": hub.real_spawn,
    "restart": hub.restart,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--upstream", default="", help="directories with JupyterHub 6 and its proxy, separated by ':'")
    parser.add_argument("--case", default=",".join(CASES))
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--servers", type=int, default=1000, help="running servers in the case 'restart'")
    options = parser.parse_args()
    targets = {"ours": [Path(sys.executable).parent]}
    if options.upstream:
        targets["upstream"] = [Path(part) for part in options.upstream.split(":")]
    rows: list[tuple[str, str, dict[str, float]]] = []
    for case in options.case.split(","):
        samples: dict[str, dict[str, list[float]]] = {name: {} for name in targets}
        for _ in range(options.repetitions if case != "restart" else max(1, options.repetitions // 2)):
            for name, path in targets.items():
                with tempfile.TemporaryDirectory(prefix="bench-") as directory:
                    for measure, value in CASES[case](Path(directory) / "hub", path, options.servers).items():
                        samples[name].setdefault(measure, []).append(value)
        for measure in samples["ours"]:
            rows.append((case, measure, {name: median(found[measure]) for name, found in samples.items()}))
    print("| case | measure | " + " | ".join(targets) + " |")
    print("|---|---|" + "---|" * len(targets))
    for case, measure, values in rows:
        print(f"| {case} | {measure} | " + " | ".join(f"{values[name]:.3f}" for name in targets) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
