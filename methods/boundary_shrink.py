import typing

from mubench.methods.base import Corruption, Method, Term


class BoundaryShrink(Method):
    """Boundary shrink: each example of D_f is taught the wrong class that lies nearest, across the closest boundary of
    the original.

    The neighbour is found as an adversary would: one step of ``step`` along the sign of the input's gradient, upwards
    in the original's loss (FGSM), and there the class, other than the true one, that the original thinks likeliest.
    ``units``: the step is in those of the model's inputs (``normalised``), or in ``pixels`` between 0, black, and 1,
    white, and the picture is brought back to that range and to whole bytes. Of texts, whose inputs are no numbers, the
    embeddings are moved instead, in units of their standard deviation.
    """

    paper = "Chen et al. 2023 (Boundary Unlearning), §4.2; code TY-LEE/boundary-unlearning-code, boundary_unlearn.py"
    deviations = (
        "The step is in units of the normalised inputs; the authors' is in pixels (units=pixels).",
        "Stepped inputs are left as they are; theirs are brought back to pixels from 0 to 1, in whole bytes.",
        "The neighbour is never the true class; theirs is that where the step crosses no boundary.",
        "Optimiser and weight decay are the recipe's; theirs: SGD, momentum 0.9, without weight decay.",
        "Gradients are clipped to norm 1; theirs are not.",
        "Rate and epochs are ours: 0.03 of the recipe's rate, 1 epoch; theirs: 1e-5, 10 epochs.",
        "Of texts, for which there is no official code, the embeddings are moved.",
    )
    official = {
        "optimizer": "sgd",
        "momentum": 0.9,
        "weight_decay": 0.0,
        "clip": 0.0,
        "lr": 1e-5,
        "epochs": 10,
        "units": "pixels",
    }
    schedule = "forget_only"
    requires = frozenset({"classes"})
    step: float = 0.1
    units: typing.Literal["normalised", "pixels"] = "normalised"
    lr_factor = 0.03
    epochs = 1
    search = {"step": (0.01, 1.0, "log")}

    @property
    def terms(self):
        return (Term("forget", "loss", "none", how=self.shrink, corruption=Corruption.DATA),)

    @property
    def needs(self):
        return super().needs | ({"pixels"} if self.units == "pixels" else set())

    def prepare(self, context):
        context.teacher("original")
        self.range = context.task.input_range(context.model_name) if self.units == "pixels" else None

    def shrink(self, context, batch, student, teacher):
        from torch.nn.functional import cross_entropy

        from mubench.models.behaviour import masked_mean

        loss = cross_entropy(
            student.logits.movedim(-1, 1), self.nearest(context, batch), reduction="none", ignore_index=-100
        )
        return loss if student.mask is None else masked_mean(loss, student.mask)

    def nearest(self, context, batch):
        """The labels of the nearest wrong classes; of a sequence, for each token that counts."""
        import torch

        model = context.original
        tensors = {name: values for name, values in batch.items() if isinstance(values, torch.Tensor)}
        moving = {name: v.clone().requires_grad_() for name, v in tensors.items() if v.is_floating_point()}
        with context.counted("uphill", batch), torch.enable_grad(), Embeddings(model, not moving) as embeddings:
            context.task.forward(model, batch | moving).loss.sum().backward()
        moved = {name: self.moved(v.detach(), v.grad.sign()) for name, v in moving.items() if v.grad is not None}
        step = 0 if moving else self.step * embeddings.value.grad.sign()
        with context.counted("neighbour", batch, gradient=False), torch.no_grad(), Embeddings(model, not moving, step):
            logits = context.task.forward(model, batch | moved).logits
        labels = batch["labels"]
        others = logits.scatter(-1, labels.clamp(min=0)[..., None], -torch.inf).argmax(-1)
        return torch.where(labels < 0, labels, others)

    def moved(self, values, direction):
        """Inputs after the step."""
        if self.units == "normalised":
            return values + self.step * direction
        black, white = (bound.to(values) for bound in self.range)
        pixels = ((values - black) / (white - black) + self.step * direction).clamp(0, 1)
        return black + (white - black) * (255 * pixels).round() / 255


class Embeddings:
    """Catches what the input embeddings give in a forward pass, as ``value``, and adds ``step`` of their standard
    deviations to it.
    """

    def __init__(self, model, wanted, step=0):
        said = (
            model.get_encoder() if wanted and model.config.is_encoder_decoder else model
        )  # of prompts, not of the answers read so far
        self.hook = said.get_input_embeddings().register_forward_hook(self.caught) if wanted else None
        self.step = step

    def caught(self, module, _, out):
        self.value = (out.detach() + self.step * module.weight.std()).requires_grad_()
        return self.value

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.hook:
            self.hook.remove()
