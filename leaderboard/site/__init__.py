"""The leaderboard as a static site: no server, no tracking, nothing from elsewhere; works from a folder on disk.

Pages are made by Jinja2, which escapes all text; charts are SVG; the table and the comparison read `data.js`.
"""

from mubench.leaderboard.site.pages import Pages
from mubench.leaderboard.site.templating import HERE, templates
from mubench.leaderboard.site.writing import serve, write_site

__all__ = ["HERE", "Pages", "serve", "templates", "write_site"]
