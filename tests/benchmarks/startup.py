"""How much longer `mubench --help` and `mubench ls methods` take than `python -c pass`.

    python tests/benchmarks/startup.py

Limit: 0.3 s (the median of 9 differences).
"""

import statistics
import subprocess
import sys
import time


def seconds(*words):
    start = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main():
    good = True
    for words in (["--help"], ["ls", "methods"], ["ls", "tasks"], ["ls", "metrics"]):
        more = statistics.median(seconds("-m", "mubench", *words) - seconds("-c", "pass") for _ in range(9))
        print(f"mubench {' '.join(words)}: {more:.3f} s more than `python -c pass`, limit 0.3")
        good &= more <= 0.3
    raise SystemExit(not good)


if __name__ == "__main__":
    main()
