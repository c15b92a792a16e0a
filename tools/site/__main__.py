"""`python -m tools.site [FOLDER]`: builds the site there (default: build/site). A warning is an error.

First the quick check of all links (`tools.site.links`), the README's and the contributors' pages' among them; then
Sphinx, which resolves each link and heading as readers will find it. Exit code 1 where something is wrong.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.site import links
from tools.site.stage import staged

HERE = Path(__file__).parent


def main(arguments: list[str]) -> int:
    to = Path(arguments[0]) if arguments else links.REPOSITORY / "build" / "site"
    if links.main():
        return 1
    source = to.with_name(f"{to.name}-source")
    try:
        staged(links.REPOSITORY, source)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    options = ["--fail-on-warning", "--keep-going", "--quiet", "--fresh-env", "--conf-dir", str(HERE)]
    done = subprocess.run([sys.executable, "-m", "sphinx", *options, str(source), str(to)], check=False)
    if done.returncode == 0:
        sys.stdout.write(f"{to / 'index.html'}\n")
    return 1 if done.returncode else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
