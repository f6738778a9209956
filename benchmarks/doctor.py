"""Time and memory of ``nextgpt doctor`` on a configuration: a process of its own, from nothing.

Bounds: 20 s, 2 GB on `configs/nextgpt-7b.yaml`. Where other programs keep the processor busy, the
seconds of computing say more than those of waiting.
"""

import argparse
import os
import subprocess
import sys
import time

MAX_S, MAX_GB = 20, 2.0


def main() -> int:
    """Run the command once and print its cost; 0 where both are within bounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-c", "--config", default="configs/nextgpt-7b.yaml")
    config = parser.parse_args().config
    command = [sys.executable, "-m", "nextgpt.cli", "doctor", "-c", config]
    started = time.perf_counter()
    # Nobody waits for a hub that does not answer.
    child = subprocess.Popen(command, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    _, status, usage = os.wait4(child.pid, 0)
    waited_s = time.perf_counter() - started
    computed_s = usage.ru_utime + usage.ru_stime
    peak_gb = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
    print(
        f"{config}: exit code {os.waitstatus_to_exitcode(status)}, {waited_s:.1f} s waited, "
        f"{computed_s:.1f} s computed (bound {MAX_S} s), {peak_gb:.2f} GB at most (bound {MAX_GB})"
    )
    return 0 if computed_s < MAX_S and peak_gb < MAX_GB else 1


if __name__ == "__main__":
    sys.exit(main())
