"""What a user writes, as the type checker reads it (`make lint`); nothing here is run. A public function without types
is an error, and so is one whose types are not these.
"""

from collections.abc import Iterator
from pathlib import Path

import mubench
from mubench import MubenchError, Recipe, RunSpec
from mubench.leaderboard.board import Board
from mubench.leaderboard.studies.figures import Exhibit
from mubench.methods.base import Method, Term
from mubench.models.unlearned import Unlearned
from mubench.records.result import Result
from mubench.tasks.base import Model, Task


class Mine(Method):
    """A method of a user's own."""

    strength: float = 1.0
    schedule: str = "joint"

    @property
    def terms(self) -> tuple[Term, ...]:
        return Term("forget", "loss", "true", weight=-self.strength), Term("retain", "loss", "true")


def use(model: object, examples: list[dict[str, object]]) -> None:
    result: Result = mubench.run("fashion", "salun", ratio=5, seed=0, params={"lr": 1e-4}, save_model=True)
    tuned: Result = mubench.tune("fashion", Mine, trials=3, out="results")
    scores: dict[str, float | None] = mubench.score(f"results/{result.id}")
    done: Unlearned = mubench.unlearn(model, examples[:2], examples[2:], method="salun", lr=1e-3)
    measured: dict[str, float | None] = mubench.evaluate("fashion", done.model, ratio=5)
    lines: Iterator[str] = mubench.check("salun")
    packed: Iterator[str] = mubench.submit(["results"], "My method")
    table: Board = mubench.board("results")
    page: Path = mubench.report(f"results/{result.id}", "report.html")
    drawn: list[Exhibit] = mubench.ablate("lora", "fashion", "salun", at=[5, 50], limit=64)
    task: Task = mubench.load_task("fashion")
    method: Method = mubench.load_method("salun", lr=1e-4)
    spec, recipe = RunSpec(task="fashion", model="resnet", method="salun"), Recipe(lr=1e-3, epochs=1, batch_size=8)
    print(tuned, scores, measured, [*lines, *packed], table.text(), page, drawn, task, method, spec.id, recipe.lr)
    raise MubenchError(str(Model("ViTForImageClassification")))
