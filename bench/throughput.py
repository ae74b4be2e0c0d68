"""Measures how many posts a second the line carries for a minute.

A fixed number is due in each second; a post that is not carried in its second is late, and the lateness grows.
Beside it the same plan on PostgreSQL and NATS with no features.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dispatch import SAMPLE_RATIO, p50, p99, run_ours
from references import run_bare_path
from results import result_line


def main() -> None:
    """Runs both sides and prints their figures, the result last."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=5000, help="posts due in each second")
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    posts = options.rate * options.seconds
    with tempfile.TemporaryDirectory(prefix="regie-bench-") as folder:
        ours, cpu = run_ours(Path(folder) / "ours", posts, 0, rate=options.rate)
        bare = run_bare_path(Path(folder) / "bare", posts, 0, rate=options.rate)
    for side, lags in (("régie", ours), ("bare path", bare)):
        print(f"{side}: {carried(lags, options.seconds)}/s, late p50 {p50(lags)} ms, p99 {p99(lags)} ms")
    print("régie: ms of processor time for a post: " + ", ".join(f"{name} {ms}" for name, ms in cpu.items()))
    print(
        result_line(
            "throughput",
            ours=carried(ours, options.seconds),
            reference=carried(bare, options.seconds),
            unit="1/s",
            better="higher",
            params={
                "rate": options.rate,
                "seconds": options.seconds,
                "reference": "PostgreSQL and NATS with no features, the same posts due",
                "ours_p99_ms": p99(ours),
                "reference_p99_ms": p99(bare),
                "cpu_ms_a_post": cpu,
                "trace_sample_ratio": float(SAMPLE_RATIO),
            },
        )
    )


def carried(lags: Sequence[float], seconds: float) -> float:
    """Returns posts a second, from the first due time to the last call."""
    return round(len(lags) / (seconds + max(0.0, lags[-1])))


if __name__ == "__main__":
    main()
