"""Writes the site to a folder, and shows it on this machine."""

import contextlib
import functools
import http.server
import shutil
import tempfile
from pathlib import Path

from mubench.cache import whole, writing
from mubench.errors import MubenchError
from mubench.leaderboard.site.pages import Pages
from mubench.leaderboard.site.templating import HERE

SPACE = """---
title: {title}
sdk: static
app_file: index.html
license: apache-2.0
---

This folder is a static site: GitHub Pages, a static Space of the Hugging Face Hub and any web server show it as it is.
"""


def write_site(made, out, title="mubench leaderboard"):
    """Write the site of a board. The same board gives the same bytes.

    made: a `Board`.
    out: a folder that is empty, new or of an earlier site.
    title: what the site is called.

    Returns the path of its first page. Raises `MubenchError` where the folder holds something else.
    """
    out = Path(out)
    if out.exists() and any(out.iterdir()) and not (out / "data.js").is_file():
        raise MubenchError(f"{out} is no folder of a site and not empty: choose another with --site")
    pages = Pages(made, title)
    with writing(out):
        for name in ("tasks", "methods", "submissions"):
            shutil.rmtree(out / name, ignore_errors=True)
        for name, text in (*pages.all(), ("README.md", SPACE.format(title=title))):
            with whole(out / name) as path:
                path.write_text(text, encoding="utf-8", newline="\n")
        for file in sorted((HERE / "static").iterdir()):
            shutil.copyfile(file, out / file.name)
        made.write(out / "tables")
    return out / "index.html"


def serve(made, out=None, port=8000):
    """Write the site and show it to this machine's browser until interrupted."""
    with contextlib.ExitStack() as stack:
        folder = Path(out or stack.enter_context(tempfile.TemporaryDirectory()))
        write_site(made, folder)
        handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
        try:
            server = stack.enter_context(http.server.ThreadingHTTPServer(("127.0.0.1", port), handler))
        except OSError as error:
            raise MubenchError(f"port {port} cannot be used ({error.strerror}): give another with --port") from error
        print(f"the leaderboard is at http://127.0.0.1:{server.server_port}/ until you press Ctrl-C", flush=True)
        server.serve_forever()
