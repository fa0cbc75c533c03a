"""What was measured, as tables, a JSON file and a picture."""

from __future__ import annotations

import json
from pathlib import Path


def first_engine(rows: dict[str, dict]) -> str | None:
    """The row that stands for fastnn: its first engine that was measured."""
    return next((name for name in rows if name.startswith("fastnn")), None)


def print_table(result: dict, peak: dict) -> None:
    """A line for each peer of a workload, and one for what whole calls cost."""
    rows = result["peers"]
    ours = first_engine(rows)
    best = peak.get(f"{result['dtype']}_all")
    print(f"  {'':<14}{'us/step':>10}{'GFLOP/s':>9}{'of peak':>9}{'fastnn takes':>14}"
          f"{'threads':>9}{'last loss':>12}")  # fmt: skip
    for name, row in rows.items():
        share = f"{row['gflops'] / best:.1%}" if best else "-"
        ratio = "-"
        if ours is not None and name != ours:
            ratio = f"{rows[ours]['us_per_step'] / row['us_per_step']:.3f}"
        threads = "its own" if name.startswith("fastnn") else str(row["threads"])
        print(f"  {name:<14}{row['us_per_step']:>10.2f}{row['gflops']:>9.2f}{share:>9}{ratio:>14}"
              f"{threads:>9}{row['loss'][-1]:>12.6f}")  # fmt: skip
    whole = [
        f"{name} {row['whole_us_per_step']:.2f}"
        for name, row in rows.items()
        if "whole_us_per_step" in row
    ]
    if whole:
        print(f"  whole call for one epoch, checks and shuffle too: {', '.join(whole)}", flush=True)


def print_about(about: dict[str, dict[int, dict]]) -> None:
    """Versions, kernels and flags of every peer, for each number of threads that it tried."""
    print()
    for name, variants in about.items():
        for threads, values in variants.items():
            tried = f" ({threads} threads)" if len(variants) > 1 else ""
            print(f"{name}{tried}: {', '.join(f'{key} {value}' for key, value in values.items())}")


def write(folder: Path, name: str, content: dict) -> None:
    """Write a JSON file, and say where."""
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    print(f"written: {path}")


def draw(path: Path, results: list[dict], title: str) -> None:
    """Bars: how many times fastnn's time each peer takes on each workload."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        print("no picture: matplotlib is not installed")
        return
    ratios: dict[str, dict[str, float]] = {}
    for result in results:
        rows = result["peers"]
        ours = first_engine(rows)
        for name, row in rows.items():
            if ours is not None and name != ours:
                ratio = row["us_per_step"] / rows[ours]["us_per_step"]
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
        # From 1 to the ratio, to the left where the peer is faster.
        widths = [ratio - 1 for ratio in values.values()]
        bars = axes.barh(places, widths, height, left=1, label=name)
        axes.bar_label(bars, [f"{ratio:.2g}" for ratio in values.values()], padding=3, fontsize=7)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.margins(x=0.1)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("")
    axes.set_xlabel("time of the peer / time of fastnn (the line: as fast as fastnn)")
    axes.set_yticks(range(len(titles)), titles)
    axes.invert_yaxis()
    axes.set_title(title, fontsize=9)
    axes.legend()
    figure.savefig(path, dpi=120)
    print(f"written: {path}")
