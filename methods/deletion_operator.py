from mubench.methods.base import Corruption, Method, Parameters, Term


class DeletionOperator(Method):
    """Deletion operators: a square matrix after each hidden layer is all that is trained; the model itself is frozen.

    GNNDelete without the graph, hence not under its name: there an operator acts on the neighbourhood of what is
    deleted, here on every input, as other data have no neighbourhoods. Deletion consistency pulls the representation of
    each example of D_f to that the original has of an example of D_r, drawn once; those of D_r are kept. An operator
    follows the linear map that ends a layer, so it is multiplied into that map's weights in the end: what is saved is a
    model like the original.
    """

    formerly = {"gnn_delete": 1}
    paper = "After Cheng et al. 2023 (GNNDelete), Eq. 6–8; code mims-harvard/GNNDelete, framework/models/deletion.py"
    deviations = (
        "An operator acts on every input; theirs on the neighbourhood of what is deleted, which only graphs have.",
        "Operators begin as the identity; in the authors' code as ones/1000.",
        "The target of an example of D_f is one of D_r; theirs, of a deleted edge, is a random non-edge.",
        "One pair of losses is of the representation before the head; theirs one of each layer.",
        "Optimiser and weight decay are the recipe's; theirs: Adam without weight decay.",
        "Gradients are clipped to norm 1; theirs are not.",
        "Rate and epochs are ours: the recipe's rate, 1 epoch; theirs: 1e-3, 3000 steps on the whole graph.",
    )
    official = {"optimizer": "adam", "weight_decay": 0.0, "clip": 0.0, "lr": 1e-3}
    prunes = False
    adapts = False
    schedule = "joint"
    shards = False
    version = 2  # batch norms of the frozen model keep their statistics
    parameters = Parameters.EXTERNAL
    alpha: float = 0.5
    lr_factor = 1.0
    epochs = 1
    search = {"alpha": (0.1, 0.9)}

    @property
    def terms(self):
        return (
            Term("forget", "rep", "none", weight=self.alpha, how=self.consistent, corruption=Corruption.DATA),
            Term("retain", "rep", "original", weight=1 - self.alpha),
        )

    def trainable(self, student, head):
        from torch.nn.utils.parametrize import register_parametrization

        from mubench.models import networks

        projections = networks.projections(student, networks.layers(student, head))
        self.changed = [student.get_submodule(name) for name in projections]
        operators = [_operator(module) for module in self.changed]
        for module, operator in zip(self.changed, operators, strict=True):
            for name in ("weight", "bias"):
                if getattr(module, name, None) is not None:
                    register_parametrization(module, name, operator)
        return operators

    def prepare(self, context):
        import torch

        at = torch.randint(len(context.retain), (len(context.forget),), generator=context.generator("partners"))
        self.partners = dict(zip(context.forget.rows.tolist(), at.tolist(), strict=True))

    def consistent(self, context, batch, student, teacher):
        import torch

        partners = torch.tensor([self.partners[i] for i in batch["index"].tolist()])
        others = context.batch(context.retain, partners, f"partners/{context.step}")
        return context.task.distance(student, context.teacher("original").answer(others, slice(None), features=True))

    def finish(self, context):
        from torch.nn.utils.parametrize import remove_parametrizations

        for module in self.changed:
            for name in [*module.parametrizations]:
                remove_parametrizations(module, name)  # leaves the product


def _operator(module):
    """A deletion operator for the outputs of a linear map or convolution, acting on its weights."""
    import torch

    outputs_last = type(module).__name__ == "Conv1D"  # GPT-2's linear maps: [inputs, outputs]

    class Operator(torch.nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.matrix = torch.nn.Parameter(torch.eye(weight.shape[1 if outputs_last else 0]).to(weight))

        def forward(self, values):
            if outputs_last:
                return values @ self.matrix.T
            return (self.matrix @ values.flatten(1)).view_as(values) if values.ndim > 1 else self.matrix @ values

    return Operator(module.weight)
