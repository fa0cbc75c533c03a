"""The digest of the C sources, which the module compiled from them carries.

setup.py runs this file by its path, before anything is installed: it imports nothing of fastnn.
``python fastnn/engines/sources.py`` prints the digest, for a build by hand.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

FOLDER = Path(__file__).with_name("csrc")


def headers() -> list[Path]:
    """All headers: a change of one changes the module."""
    return sorted(FOLDER.rglob("*.h"))


def digest() -> str | None:
    """32 hexadecimal digits from the names and contents of all C files.

    None where they are not, as in an installed package.
    """
    total = hashlib.sha256()
    try:
        for path in sorted(FOLDER.rglob("*.[ch]")):
            content = path.read_bytes()
            total.update(f"{path.relative_to(FOLDER).as_posix()} {len(content)}\n".encode())
            total.update(content)
    except OSError:
        return None
    return total.hexdigest()[:32] if FOLDER.is_dir() else None


if __name__ == "__main__":
    print(digest())
