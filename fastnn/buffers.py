"""Buffers that share memory: those whose lifetimes do not overlap may have the same elements."""

from __future__ import annotations

import bisect
import heapq


class Buffers:
    """Ranges of the per-sample space, allocated by lifetime."""

    def __init__(self):
        self.size = 0
        self._buffers: list[list[int]] = []  # size, start, end, offset

    def add(self, size: int, start: int, end: int) -> int:
        """Add a buffer that is live from `start` to `end`; returns its number."""
        self._buffers.append([size, start, end, -1])
        return len(self._buffers) - 1

    def extend(self, number: int, end: int) -> None:
        """Keep a buffer live until `end`."""
        self._buffers[number][2] = max(self._buffers[number][2], end)

    def offset(self, number: int) -> int:
        return self._buffers[number][3]

    def place(self) -> None:
        """Give every buffer an offset, in the order of starts: first fit."""
        gaps: list[list[int]] = []  # [start, end] of free elements below `size`, in order
        live: list[tuple[int, int, int]] = []  # a heap of (end, offset, size)
        for buffer in sorted(self._buffers, key=lambda buffer: buffer[1]):
            size, start, end, _ = buffer
            while live and live[0][0] < start:
                _, offset, freed = heapq.heappop(live)
                _free(gaps, offset, offset + freed)
            buffer[3] = self._take(gaps, size)
            heapq.heappush(live, (end, buffer[3], size))

    def _take(self, gaps: list[list[int]], size: int) -> int:
        """Allocate `size` elements; returns their offset."""
        for number, gap in enumerate(gaps):
            if gap[1] - gap[0] >= size:
                offset = gap[0]
                gap[0] += size
                if gap[0] == gap[1]:
                    del gaps[number]
                return offset
        if gaps and gaps[-1][1] == self.size:  # extend the last gap
            offset = gaps.pop()[0]
        else:
            offset = self.size
        self.size = offset + size
        return offset


def _free(gaps: list[list[int]], start: int, end: int) -> None:
    """Add a range to the gaps and merge it with adjacent ones."""
    place = bisect.bisect(gaps, [start, end])
    if place < len(gaps) and gaps[place][0] == end:
        end = gaps.pop(place)[1]
    if place and gaps[place - 1][1] == start:
        gaps[place - 1][1] = end
    else:
        gaps.insert(place, [start, end])
