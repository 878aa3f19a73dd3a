"""Table 2: methods by what they measure, corrupt and change, computed from their terms."""

import pandas as pd

from mubench.leaderboard.studies.figures import Exhibit
from mubench.leaderboard.studies.paper.published import SOURCE, TAXONOMY

COLUMNS = {"forget": "D_f", "corruption": "corruption", "retain": "D_r", "parameters": "parameters"}
NOT_PUBLISHED = "not in the paper"


def taxonomy_table():
    """Table 2, a row per method, those of the paper first."""
    from mubench.listing import taxonomy

    rows = [
        {"method": row["method"]}
        | {column: row[name] for name, column in COLUMNS.items()}
        | {"published": _published(row["method"], tuple(row[name] for name in COLUMNS))}
        for row in taxonomy()
    ]
    rows.sort(key=lambda row: row["published"] == NOT_PUBLISHED)
    return Exhibit(
        "table_2",
        "Methods by what they measure, corrupt and change",
        table=pd.DataFrame(rows),
        notes=[f"published: {SOURCE}, Table 2; ours is computed from the methods' terms"],
    )


def _published(method, ours):
    """What the paper says of a method, beside our row."""
    published = TAXONOMY.get(method)
    if published is None:
        return NOT_PUBLISHED
    return "the same" if published == ours else " · ".join(published)
