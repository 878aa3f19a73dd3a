"""The claims of the MU-Bench paper that are judged, each with the rule by which records decide on it.

`CLAIMS` is the list, `comparisons` says what each compares, and `verdicts` judges.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.studies import comparisons
from mubench.leaderboard.studies.capacity import MARGIN
from mubench.leaderboard.studies.comparisons import LEAST_RATIOS
from mubench.leaderboard.studies.coverage import ablate_command
from mubench.leaderboard.studies.runs import METHODS
from mubench.spec import command

GRID = command({"task": "mini", "method": ",".join([*REFERENCES, *METHODS]), "seed": [*range(5)]})
POINTS = f"{100 * MARGIN:g} points"


@dataclass(frozen=True)
class Claim:
    """A claim is a set of comparisons, each a difference that the claim says is above 0.

    name: in one word.
    text: what the paper says.
    rule: what is compared and when it holds.
    compare: (plain, runs) → what is compared → its `Estimate`, see `comparisons`.
    unit: of the differences: ``points`` of a score, ``times`` (a logarithm of a ratio) or ``%``.
    runs: the command that makes the runs.
    """

    name: str
    text: str
    rule: str
    compare: Callable
    unit: str = "points"
    runs: str = GRID


CLAIMS = (
    Claim(
        name="robust",
        text="RandLabel and SalUn are the most robust",
        rule="On the same task, ratio and seed, the gap to retrain of NegGrad, of Bad-T and of SCRUB less that of each"
        " of the two: all six differences are above 0.",
        compare=comparisons.robust,
    ),
    Claim(
        name="destructive",
        text="NegGrad is destructive",
        rule=f"By how much NegGrad's scores on D_t and D_r lie below the original's, less {POINTS} (the margin of the"
        " deletion capacity): both are above 0.",
        compare=comparisons.destructive,
    ),
    Claim(
        name="hard",
        text="Speech, video and generation are the hardest",
        rule="The mean gap to retrain of the paper's five methods on tasks of speech, of video and of generation, less"
        " that on tasks of pictures, texts and both: all three are above 0.",
        compare=comparisons.hard,
    ),
    Claim(
        name="adapters",
        text="Adapters forget nothing below half of the parameters",
        rule=f"The loss of score on D_f against the original, a mean over methods: within {POINTS} with LoRA at shares"
        " below 50 %, beyond that at 50 % and more.",
        compare=comparisons.adapters,
        runs=ablate_command("lora", ["mini"], method=["salun", "neggrad_plus", "bad_t"], seed=range(3)),
    ),
    Claim(
        name="curriculum",
        text="A curriculum forgets less",
        rule="On the same task, method and seed, the score on D_f with SuperLoss (λ = 1) less that without is above 0.",
        compare=comparisons.curriculum,
        runs=ablate_command("curriculum", ["mini"], seed=range(3)),
    ),
    Claim(
        name="capacity",
        text="Bad-T has the smallest deletion capacity",
        rule=f"Over the ratios that both have, at least {LEAST_RATIOS}, the deletion capacity of each of the other four"
        " methods less that of Bad-T: all four are above 0.",
        compare=comparisons.capacities,
        unit="%",
        runs=ablate_command("ratio", ["mini"], seed=range(3)),
    ),
    Claim(
        name="fast",
        text="NegGrad and SCRUB are the fastest",
        rule="On the same task and seed, the work (floating-point operations) of each of the other three methods as a"
        " multiple of NegGrad's and of SCRUB's: all six are above 1.",
        compare=comparisons.fast,
        unit="times",
    ),
    Claim(
        name="loss",
        text="Measuring the loss works better than measuring logits",
        rule="On the same task and seed, the mean gap to retrain of all methods whose knowledge measure on D_f is"
        " logits, less that of those which measure the loss, is above 0.",
        compare=comparisons.measures,
        runs=command({"task": "mini", "method": "all", "seed": [*range(3)]}),
    ),
)
