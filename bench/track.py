"""Run asv's commands on this repository in a clean environment; three commands are added.

python bench/track.py run main~5..main     the same as ``asv run`` in bench/, and so on
python bench/track.py here                 measure the working tree with this Python
python bench/track.py quick                every benchmark once on little work: a test
python bench/track.py offline              publish, with local copies of the page's scripts (npm)
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import machine
import offline

BENCH = Path(__file__).resolve().parent
RESULTS = BENCH / "results" / "asv"
#: The commands of asv that measure commits, not the working tree.
MEASURING = ("run", "continuous", "find", "profile")


def git(*arguments: str) -> str | None:
    """The output of git, or None if it fails."""
    try:
        done = subprocess.run(["git", *arguments], cwd=BENCH, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def asv(*arguments: str) -> int:
    """Run asv in this folder and return its exit status."""
    if arguments and arguments[0] != "machine":
        # Describe a new machine with asv's defaults, without its questions.
        known = Path.home() / ".asv-machine.json"
        if not known.exists():
            subprocess.run([sys.executable, "-m", "asv", "machine", "--yes"], cwd=BENCH)
    return subprocess.run([sys.executable, "-m", "asv", *arguments], cwd=BENCH).returncode


def main(arguments: list[str]) -> int:
    """Run the command line; the exit status is asv's."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if arguments else 2
    if find_spec("asv") is None:
        print("track: asv is not installed: pip install asv virtualenv", file=sys.stderr)
        return 2
    commit, changed = git("rev-parse", "HEAD"), git("status", "--porcelain")
    if commit is None:
        print("track: not a git clone with a commit, whose history asv needs", file=sys.stderr)
        return 2
    removed = machine.clean_environment()
    if removed:
        print(f"track: removed from the environment: {', '.join(removed)}")
    command, *rest = arguments
    existing = f"existing:{sys.executable}"
    if command == "quick":
        os.environ["FASTNN_BENCH_QUICK"] = "1"
        return asv("check", "-E", existing) or asv(
            "run", "--quick", "--dry-run", "-E", existing, *rest
        )
    if command == "here":
        if changed:
            print("track: the tree has uncommitted changes: results are shown, not kept")
            return asv("run", "-E", existing, "--dry-run", *rest)
        return asv("run", "-E", existing, "--set-commit-hash", commit, *rest)
    if command == "offline":
        failed = asv("publish", *rest)
        if not failed:
            try:
                offline.copy_scripts(RESULTS / "html" / "index.html", RESULTS / "npm")
            except offline.OfflineError as problem:
                print(f"track: {problem}", file=sys.stderr)
                return 2
        return failed
    if changed and command in MEASURING:
        print(
            f"track: the tree has uncommitted changes, which asv {command} does not measure: it "
            "measures commits (python bench/track.py here measures the tree)",
            file=sys.stderr,
        )
    return asv(*arguments)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit("track: stopped")
