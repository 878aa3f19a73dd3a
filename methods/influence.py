from mubench.methods.base import Method


class Influence(Method):
    """One Newton step: move the weights by what leaving D_f out would have changed, H⁻¹ (g_f − g_r), without training.

    g_f is the gradient that D_f gives to the mean loss over D, g_r that of D_r times |D_f| / |D_r|. The inverse Hessian
    is WoodFisher's: built up from the gradients of single examples of D_r, ``samples`` of them, by the Woodbury
    identity, in place of which the authors keep one product and one vector. As in their code the count in the recursion
    is the constant 1000 that ``samples`` also is there; as it begins with the identity, a model whose gradients are
    small gets hardly more than one step of gradient ascent on D_f. Of an ``alpha`` of 1, 10 and 100 on three mini tasks
    1 did least harm, and none forgot D_f without D_r.
    """

    paper = "Izzo et al. 2021, Jia et al. 2023 (IU); code OPTML-Group/Unlearn-Sparse, unlearn/Wfisher.py"
    deviations = ("alpha is 1; the authors search it for each model.",)
    official = {}  # all but alpha, which is searched, is as theirs
    prunes = False
    adapts = False
    requires = frozenset({"loss", "retain", "examples"})
    alpha: float = 1.0
    samples: int = 1000
    search = {"alpha": (0.1, 30.0, "log")}

    def finish(self, context):
        import torch
        from torch.nn.utils import parameters_to_vector, vector_to_parameters

        n, ratio = len(context.forget) + len(context.retain), len(context.forget) / len(context.retain)
        step = (self.gradient(context, context.forget) - ratio * self.gradient(context, context.retain)) / n
        some = (
            torch.randperm(len(context.retain), generator=context.generator("samples"))[: self.samples + 1]
            .sort()
            .values
        )
        moved = self.inverse(context, context.retain.select(some), step)
        trained = [p for p in context.student.parameters() if p.requires_grad]
        with torch.no_grad():
            vector_to_parameters(parameters_to_vector(trained) + self.alpha * moved, trained)

    def gradient(self, context, view):
        """The sum over a view of the gradients of its examples' losses, as a vector."""
        from mubench.train.gradients import gradients

        parts = [(len(batch["index"]), found) for batch, found in gradients(context, view, context.batch_size)]
        return sum(self._vectors(found).mean(0) * count for count, found in parts)

    def inverse(self, context, view, vector):
        """H⁻¹ · vector, one example's gradient after the other."""
        from mubench.train.gradients import gradients

        first, count = None, 1000
        for _, found in gradients(context, view):
            for gradient in self._vectors(found):
                if first is None:
                    first, vector = gradient.clone(), vector.clone()
                    continue
                product = first @ gradient
                vector -= (vector @ gradient) / (count + product) * first
                first -= product / (count + product) * first
        return vector

    def _vectors(self, found):
        import torch

        return torch.cat([values.flatten(1) for values in found.values()], 1)
