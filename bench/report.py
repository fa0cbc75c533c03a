"""Results as tables, a JSON file and a bar chart."""

from __future__ import annotations

import json
from pathlib import Path


def first_engine(measured: dict[str, dict]) -> str | None:
    """The first of fastnn's engines among the peers; the others are compared with it."""
    return next((name for name in measured if name.startswith("fastnn")), None)


def print_table(result: dict, peak: dict) -> None:
    """A line for each peer of a workload, and one for the time of whole calls."""
    measured = result["peers"]
    ours = first_engine(measured)
    best = peak.get(f"{result['dtype']}_all")
    print(f"  {'':<14}{'us/step':>10}{'GFLOP/s':>9}{'of peak':>9}{'fastnn takes':>14}"
          f"{'threads':>9}{'last loss':>12}")  # fmt: skip
    for name, found in measured.items():
        share = f"{found['gflops'] / best:.1%}" if best else "-"
        ratio = "-"
        if ours is not None and name != ours:
            ratio = f"{measured[ours]['us_per_step'] / found['us_per_step']:.3f}"
        threads = "its own" if name.startswith("fastnn") else str(found["threads"])
        print(f"  {name:<14}{found['us_per_step']:>10.2f}{found['gflops']:>9.2f}{share:>9}"
              f"{ratio:>14}{threads:>9}{found['loss'][-1]:>12.6f}")  # fmt: skip
    whole = [
        f"{name} {found['whole_us_per_step']:.2f}"
        for name, found in measured.items()
        if "whole_us_per_step" in found
    ]
    if whole:
        print(
            f"  whole call of one epoch, with all checks: {', '.join(whole)}",
            flush=True,
        )


def print_about(about: dict[str, dict[int, dict]]) -> None:
    """Versions, kernels and flags of every peer, for each number of threads that was tried."""
    print()
    for name, variants in about.items():
        for threads, values in variants.items():
            tried = f" ({threads} threads)" if len(variants) > 1 else ""
            print(f"{name}{tried}: {', '.join(f'{key} {value}' for key, value in values.items())}")


def write(folder: Path, name: str, content: dict) -> None:
    """Write ``folder/name.json`` and print its path."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written: {path}")


def draw(path: Path, results: list[dict], title: str) -> None:
    """Draw the time of each peer divided by fastnn's, as bars for each workload."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: matplotlib is not installed")
        return
    ratios: dict[str, dict[str, float]] = {}
    for result in results:
        measured = result["peers"]
        ours = first_engine(measured)
        for name, found in measured.items():
            if ours is not None and name != ours:
                ratio = found["us_per_step"] / measured[ours]["us_per_step"]
                ratios.setdefault(name, {})[result["title"]] = ratio
    if not ratios:
        print("no picture: nothing to compare")
        return
    titles = [result["title"] for result in results]
    height = 0.8 / len(ratios)
    figure = Figure(figsize=(10, 1.5 + 0.6 * len(titles)), layout="constrained")
    axes = figure.add_subplot()
    for index, (name, values) in enumerate(ratios.items()):
        places = [titles.index(t) + (index - (len(ratios) - 1) / 2) * height for t in values]
        # Bars start at 1; they point to the left where the peer is faster.
        widths = [ratio - 1 for ratio in values.values()]
        bars = axes.barh(places, widths, height, left=1, label=name)
        axes.bar_label(bars, [f"{ratio:.2g}" for ratio in values.values()], padding=3, fontsize=7)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("time of the peer / time of fastnn (line: equal)")
    axes.set_yticks(range(len(titles)), titles)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9)
    axes.legend()
    figure.savefig(path, dpi=120)
    print(f"written: {path}")
