"""What pyproject.toml cannot say of the C module: its headers, and the digest of its sources."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
SOURCES = runpy.run_path(str(ROOT / "fastnn" / "engines" / "sources.py"))


class BuildExt(build_ext):
    """Compiles the digest of the C sources into the module, which compares it when it is loaded."""

    def finalize_options(self):
        super().finalize_options()
        headers = [path.relative_to(ROOT).as_posix() for path in SOURCES["headers"]()]
        for ext in self.extensions or []:
            ext.depends = headers  # the source distribution contains them

    def build_extension(self, ext):
        digest = SOURCES["digest"]()
        ext.define_macros.append(("FASTNN_SOURCES", f'"{digest}"'))
        built = Path(self.get_ext_fullpath(ext.name))
        # Times of files say little after a pull or a copy.
        self.force = not (built.is_file() and digest.encode() in built.read_bytes())
        super().build_extension(ext)


setup(cmdclass={"build_ext": BuildExt})
