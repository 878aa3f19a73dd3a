from mubench.methods.base import Method, Term


class BoundaryShrink(Method):
    """Boundary shrink: each example of D_f is taught the wrong class that lies nearest, across the closest boundary of the original.

    The neighbour is found as an adversary would: one step of ``step`` along the sign of the input's gradient, upwards in the
    original's loss (FGSM), and there the class, other than the true one, that the original thinks likeliest. The official code takes the
    likeliest class even where the step did not cross a boundary, which is then the true one. ``step`` is in units of the inputs (normalised
    pixels or samples); of texts, whose inputs are no numbers, in units of the standard deviation of the embeddings, which are moved instead.
    """

    paper = "Chen et al. 2023 (Boundary Unlearning), §4.2; code TY-LEE/boundary-unlearning-code, boundary_unlearn.py"
    schedule = "forget_only"
    requires = frozenset({"classes"})
    step: float = 0.1
    lr_factor = 0.03
    epochs = 1
    search = {"step": (0.01, 1.0, "log")}

    @property
    def terms(self):
        return (Term("forget", "loss", "none", how=self.shrink, corruption="Data"),)

    def prepare(self, context):
        context.teacher("original")

    def shrink(self, context, batch, mine, theirs):
        from torch.nn.functional import cross_entropy

        from mubench.behaviour import masked_mean

        loss = cross_entropy(mine.logits.movedim(-1, 1), self.nearest(context, batch), reduction="none", ignore_index=-100)
        return loss if mine.mask is None else masked_mean(loss, mine.mask)

    def nearest(self, context, batch):
        """The labels of the nearest wrong classes; of a sequence, for each token that counts."""
        import torch

        model = context.original
        moving = {name: values.clone().requires_grad_() for name, values in batch.items() if values.is_floating_point()}
        with torch.enable_grad(), Embeddings(model, not moving) as embeddings:
            context.task.forward(model, batch | moving).loss.sum().backward()
        moved = {name: values.detach() + self.step * values.grad.sign() for name, values in moving.items() if values.grad is not None}
        with torch.no_grad(), Embeddings(model, not moving, 0 if moving else self.step * embeddings.value.grad.sign()):
            logits = context.task.forward(model, batch | moved).logits
        labels = batch["labels"]
        others = logits.scatter(-1, labels.clamp(min=0)[..., None], -torch.inf).argmax(-1)
        return torch.where(labels < 0, labels, others)


class Embeddings:
    """Catches what the input embeddings give in a forward pass, as ``value``, and adds ``step`` of their standard deviations to it."""

    def __init__(self, model, wanted, step=0):
        said = model.get_encoder() if wanted and model.config.is_encoder_decoder else model  # of prompts, not of the answers read so far
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
