from mubench.methods.base import Method, Term


class Amnesiac(Method):
    """Amnesiac unlearning: what the steps that saw D_f have changed is subtracted again, then D_r repairs.

    The changes that training made are needed, and no published original comes with them. So the model is trained anew
    on all of D, by the recipe of the original, while the changes of every batch with an example of D_f are added up;
    ``repair`` epochs on D_r follow their subtraction. By its definition it costs more than retraining does; who has
    recorded the changes while the original was trained would save that. Changes contain the optimiser's momentum;
    running statistics are no parameters and stay. As the authors say, it suits a D_f that few batches saw: scattered
    over nearly all of them, nearly all learning is undone.
    """

    paper = "Graves, Nagisetty & Ganesh 2021, §4.2; code lmgraves/AmnesiacML, Amnesiac Unlearning - MNIST.ipynb"
    deviations = (
        "The model is trained anew; the authors record the changes while they train the original.",
        "The last epochs of the recipe are the repair, as many as we chose; theirs follows the training.",
    )
    official = {}  # theirs trains and repairs by the settings of its original too
    unbounded = True
    adapts = False
    start = "fresh"
    schedule = "union"
    shards = False
    repair: int = 2
    epochs = batch_size = lr_schedule = warmup = None
    search = {"repair": (1, 4)}

    @property
    def terms(self):
        return Term("forget", "loss", "true", corruption="Grad"), Term("retain", "loss", "true")

    def prepare(self, context):
        self.before, self.changes = None, None

    def before_step(self, context, seen):
        self.add_up(context)
        if seen["forget"]:
            self.before = [p.detach().clone() for p in context.student.parameters()]

    def add_up(self, context):
        """The change of the last step with an example of D_f joins the others."""
        if self.before is not None:
            changes = [
                before.neg_().add_(p.detach())
                for p, before in zip(context.student.parameters(), self.before, strict=True)
            ]
            self.changes = (
                changes if self.changes is None else [a.add_(b) for a, b in zip(self.changes, changes, strict=True)]
            )
            self.before = None

    def select(self, context):
        return None if context.epoch <= context.epochs - self.repair else []

    def after_epoch(self, context):
        if context.epoch == context.epochs - self.repair:
            self.undo(context)

    def finish(self, context):
        self.undo(context)

    def undo(self, context):
        import torch

        self.add_up(context)
        with torch.no_grad():
            if self.changes is not None:
                for p, change in zip(context.student.parameters(), self.changes, strict=True):
                    p.sub_(change)
        self.changes = None
