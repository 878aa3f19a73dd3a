"""The kinds of ablations: what is varied, what is drawn and what follows from it. `KINDS` is the table."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from mubench.errors import MubenchError, nearest
from mubench.leaderboard.rows import REFERENCES
from mubench.leaderboard.studies import bias, findings, panels
from mubench.leaderboard.studies.capacity import capacity
from mubench.leaderboard.studies.laws import laws
from mubench.leaderboard.studies.runs import SCORES
from mubench.spec import RunSpec

VARIED = ("lora", "lora_rank", "curriculum", "curriculum_lambda", "curriculum_tau")  # options that ablations are about


@dataclass(frozen=True)
class Kind:
    """One ablation: all of it that is not the same for every ablation.

    name: of the command and of the files.
    about: what is asked; the title of the figure.
    values: the columns that are drawn, a panel each.
    x: the column they are drawn over.
    x_label: the title of that axis.
    findings: (runs, points, margin) → (frame, notes, missing), what follows from the points.
    findings_name: of the findings' files.
    findings_about: what the findings are, a sentence.
    varied: what is varied, in a word.
    option: the field of `RunSpec` that says it; empty where runs do not differ in an option.
    levels: the values of the option; None is the plain run.
    plain_label: the name of the plain run.
    with_options: options that go with the varied one, pairs of name and value.
    log: whether x is logarithmic.
    on_curves: whether points lie along runs (their curves), not at their ends.
    references: methods whose runs are needed beside.
    models: those run by default.
    panels: (kind, points, runs, margin) → rows of `Panel`s.
    """

    name: str
    about: str
    values: tuple
    x: str
    x_label: str
    findings: Callable
    findings_name: str
    findings_about: str
    varied: str = ""
    option: str = ""
    levels: tuple = (None,)
    plain_label: str = ""
    with_options: tuple = ()
    log: bool = False
    on_curves: bool = False
    references: tuple = REFERENCES
    models: tuple = ()
    panels: Callable = panels.line_panels

    @property
    def varies_ratio(self):
        return self.option == "ratio"

    @property
    def varies_option(self):
        """Whether an option of the run is varied that is not its ratio."""
        return bool(self.option) and not self.varies_ratio

    def options(self, level):
        """The options of a run at a level."""
        return {} if level is None or not self.option else {self.option: level, **dict(self.with_options)}

    def level_of(self, options):
        """The level of a run by its options: None of the plain one, NaN of one that belongs to another ablation."""
        if {*options} - {self.option, *dict(self.with_options)}:
            return math.nan
        if not self.varies_option or dict(self.with_options).items() - options.items():
            return math.nan if options else None
        return options.get(self.option, RunSpec.model_fields[self.option].default)

    def label_of(self, level):
        return self.plain_label if level is None else f"{level:g}"


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="lora",
            about="Scores over the share of parameters that is trained",
            values=(*SCORES, "mia_loss_auc"),
            x="share",
            x_label="trained, % (log)",
            log=True,
            varied="share",
            option="lora",
            levels=(1, 5, 10, 25, 50, 75, None),
            plain_label="dense",
            findings=findings.least_shares,
            findings_name="shares",
            findings_about="The smallest share whose mean score on the forget set is more than `margin` below the"
            " largest over all shares",
        ),
        Kind(
            name="curriculum",
            about="Scores with and without a curriculum (SuperLoss)",
            values=(*SCORES, "mia_loss_auc"),
            x="order",
            x_label="λ of the curriculum",
            varied="λ",
            option="curriculum_lambda",
            levels=(None, 10, 1, 0.1),
            plain_label="off",
            with_options=(("curriculum", "superloss"),),
            findings=findings.curriculum_effect,
            findings_name="effect",
            findings_about="Scores with less those without, seeds paired: means and half-widths per task, method and"
            " level",
        ),
        Kind(
            name="ratio",
            about="Scores over the deletion ratio, and the deletion capacity",
            values=SCORES,
            x="ratio_order",
            x_label="deleted, %",
            varied="ratio",
            option="ratio",
            levels=tuple(range(1, 11)),
            references=("original",),
            findings=capacity,
            findings_name="capacity",
            findings_about="Deletion capacity: the largest ratio whose mean test score is at least the original's less"
            " `margin`; nothing is interpolated, and one ratio alone has none. `least` and `most`: over the seeds that"
            " tried most ratios, each by itself; `fails`: smaller ratios that do not keep to the margin all the same",
        ),
        Kind(
            name="scale",
            about="The forget score over FLOPs and over sizes of models",
            values=("forget_score",),
            x="flops",
            x_label="FLOPs (log)",
            log=True,
            on_curves=True,
            references=("original",),
            models=("all",),
            panels=panels.scale_panels,
            findings=laws,
            findings_name="laws",
            findings_about="Of every curve of scores on the forget set over FLOPs, and of the ends over the sizes of"
            " models, the law that fits",
        ),
        Kind(
            name="budget",
            about="Scores over work, up to that of retraining",
            values=SCORES,
            x="relative",
            x_label="work, 1 = retraining",
            on_curves=True,
            findings=findings.scores_by_work,
            findings_name="readings",
            findings_about="Mean scores when a share of retraining's work was done: of the last point by then, nothing"
            " is interpolated; `spent`: in all",
        ),
        Kind(
            name="bias",
            about="Change on the transfer set, and of bias amplification, against change on the test set",
            values=("test_change", "transfer_change", "bias_change"),
            x="test_change",
            x_label="change on test, points",
            panels=panels.bias_panels,
            findings=bias.excess,
            findings_name="excess",
            findings_about="By how much a method changes the transfer score more than the test score, and the bias"
            " amplification: means over tasks, with their intervals over these",
        ),
    )
}


def kind_of(kind, levels=None):
    """The `Kind` of a name, with ``levels`` instead of its own where some are given.

    kind: a name, or a `Kind`.
    levels: values of what is varied; the plain run stays among them.
    """
    if not isinstance(kind, Kind):
        if kind not in KINDS:
            raise nearest("ablation", kind, KINDS, "`mubench ablate --help`")
        kind = KINDS[kind]
    if not levels:
        return kind
    if not kind.option:
        raise MubenchError(f"--at {' '.join(map(str, levels))}: {kind.name} varies no option of its runs")
    plain = [level for level in kind.levels if level is None]
    return replace(kind, levels=tuple(dict.fromkeys([*plain, *levels])))


def varied_options(spec):
    """The options of a run that ablations are about, as far as they are set."""
    return {name: value for name, value in spec.model_dump(exclude_defaults=True).items() if name in VARIED}
