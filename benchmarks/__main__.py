"""`python -m benchmarks [NAME]`: each benchmark prints one line of JSON, last on stdout."""

import importlib
import json
import os
import platform
import signal
import sys
from pathlib import Path

BENCHMARKS = (
    *("engine", "fanout", "critical_path", "trigger", "fairness", "sweep", "scale", "hold"),
    *("admit", "herd", "fair", "gateway", "bus"),
)
RESULTS = Path(__file__).resolve().parent / "results"


def machine() -> dict[str, object]:
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    names = sys.argv[1:] or list(BENCHMARKS)
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        sys.exit(f"No benchmark {', '.join(unknown)}; there are: {', '.join(BENCHMARKS)}.")
    # Ends the processes and servers too, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    for name in names:
        figures = importlib.import_module(f"benchmarks.{name}").measure()
        line = json.dumps({"benchmark": name, "figures": figures, "machine": machine()})
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(line + "\n")
        print(line, flush=True)


if __name__ == "__main__":
    main()
