"""Local copies of the scripts that asv's page loads, so that it opens without the web.

All of them are npm packages: they are fetched once with npm, and the page is made to load the
copies.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

#: Name of the file in the page: (npm package, file in it).
SCRIPTS = {
    "jquery-3.3.1.min.js": ("jquery@3.3.1", "dist/jquery.min.js"),
    "jquery.flot.min.js": ("flot@0.8.3", "jquery.flot.js"),
    "jquery.flot.time.min.js": ("flot@0.8.3", "jquery.flot.time.js"),
    "jquery.flot.selection.min.js": ("flot@0.8.3", "jquery.flot.selection.js"),
    "jquery.flot.categories.min.js": ("flot@0.8.3", "jquery.flot.categories.js"),
    "jquery.flot.orderBars.js": ("flot-orderbars@1.0.0", "js/jquery.flot.orderBars.js"),
    "stupidtable.min.js": ("stupid-table-plugin@1.1.3", "stupidtable.min.js"),
    "md5.min.js": ("blueimp-md5@2.19.0", "js/md5.min.js"),
    "bootstrap.min.js": ("bootstrap@3.1.1", "dist/js/bootstrap.min.js"),
    "bootstrap.min.css": ("bootstrap@3.1.1", "dist/css/bootstrap.min.css"),
}

_TAG = re.compile(r'(?P<kind>src|href)="(?P<url>https://[^"]+\.(?:js|css))"[^>]*')


class OfflineError(Exception):
    """The scripts could not be copied."""


def copy_scripts(page: Path, packages: Path) -> None:
    """Copy the scripts that `page` loads from the web into its folder, and load the copies.

    Parameters
    ----------
    page : Path
        asv's index.html.
    packages : Path
        A folder for npm's packages, which is reused.

    Raises
    ------
    OfflineError
        If npm is missing or fails, or the page loads a script that is not in SCRIPTS.
    """
    html = page.read_text()
    wanted = {Path(match["url"]).name for match in _TAG.finditer(html)}
    unknown = wanted - SCRIPTS.keys()
    if unknown:
        raise OfflineError(f"asv's page loads {', '.join(sorted(unknown))}, not in SCRIPTS")
    _install(sorted({SCRIPTS[name][0] for name in wanted}), packages)
    for name in wanted:
        package, file = SCRIPTS[name]
        shutil.copy(packages / "node_modules" / package.split("@")[0] / file, page.parent / name)
    page.write_text(_TAG.sub(lambda m: f'{m["kind"]}="{Path(m["url"]).name}"', html))


def _install(names: list[str], packages: Path) -> None:
    if shutil.which("npm") is None:
        raise OfflineError("npm is not installed; it is needed for the page's scripts")
    packages.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", ".", *names],
        cwd=packages,
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise OfflineError(f"npm install failed: {done.stderr.strip()[-500:]}")
