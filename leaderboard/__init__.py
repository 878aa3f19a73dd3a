"""From result folders to tables that can be believed; trains nothing."""

if __name__ != "mubench.leaderboard":
    raise ImportError(
        "import mubench.leaderboard, not a bare 'leaderboard': install the package (pip install -e .) first"
    )
