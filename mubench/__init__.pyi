# The shop window: what `import mubench` offers, and where each thing lives. `__init__.py` loads from here when asked.
from .api import evaluate as evaluate
from .api import unlearn as unlearn
from .errors import MubenchError as MubenchError
from .leaderboard.board import board as board
from .leaderboard.check import check as check
from .leaderboard.report import report as report
from .leaderboard.studies.ablations import ablate as ablate
from .leaderboard.submission import submit as submit
from .records.predictions import score as score
from .registry import load_method as load_method
from .registry import load_task as load_task
from .runner import run as run
from .spec import RunSpec as RunSpec
from .sweep.tuning import tune as tune
from .train.recipe import Recipe as Recipe

__version__: str
