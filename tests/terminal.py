"""A pseudo terminal for a program, and what a person would see in it."""

import os
import struct
import subprocess
import sys


def run(program, columns, **environment):
    """What a Python program writes to a terminal of so many columns, and its exit status."""
    import fcntl
    import pty
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    unset = ("COLUMNS", "LINES", "TQDM_DISABLE")
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**variables, **environment},
    )
    os.close(theirs)
    found = b""
    while True:
        try:
            piece = os.read(ours, 1 << 16)
        except OSError:  # Linux says so that the other side is closed
            break
        if not piece:
            break
        found += piece
    os.close(ours)
    return found.decode(), process.wait(timeout=60)


def screen(text, columns):
    """The lines that are left on the screen, and every state of a line before it was rewritten."""
    lines, row, column, states = [[]], 0, 0, []
    i = 0
    while i < len(text):
        if text[i] == "\r":
            states.append("".join(lines[row]).rstrip())
            column = 0
        elif text[i] == "\n":
            row += 1
        elif text.startswith("\x1b[A", i):
            row, i = row - 1, i + 2
        else:
            assert text[i] != "\x1b", text[i : i + 8]
            if column == columns:
                row, column = row + 1, 0
            while len(lines) <= row:
                lines.append([])
            line = lines[row]
            line += " " * (column + 1 - len(line))
            line[column] = text[i]
            column += 1
        while len(lines) <= row:
            lines.append([])
        i += 1
    return ["".join(line).rstrip() for line in lines], [state for state in states if state]
