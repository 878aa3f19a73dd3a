from mubench.methods.base import Method, Parameters


class Uce(Method):
    """Unified concept editing: keys and values of cross-attention are given in closed form; no training.

    W' = (λ W + Σ s v* cᵀ)(λ I + Σ s c cᵀ)⁻¹ over concepts c, the states of the last token that names what a prompt asks
    for: v* is W times the concept of the empty prompt for prompts of D_f, W c for those of D_r. A prompt's scale s is
    its share of its set times the number of that set's prompts, ``erase`` or ``preserve`` on average, as the same
    prompt may be in both.
    """

    paper = "Gandikota et al. 2024, Eq. 7; code rohitgandikota/unified-concept-editing, trainscripts/uce_sd_erase.py"
    deviations = ("A prompt's scale is its share of its set, as it may be in both; theirs is 1 for each concept.",)
    official = {}  # λ 0.5 and scales of 1 on average are theirs
    prunes = False
    adapts = False
    parameters = Parameters.SPARSE
    requires = frozenset({"prompts", "retain"})
    erase: float = 1.0
    preserve: float = 1.0
    lamb: float = 0.5
    search = {"erase": (0.5, 2.0), "lamb": (0.1, 1.0)}

    def finish(self, context):
        import torch

        texts, tokens = (f(context.device) for f in (context.task.texts, context.task.concepts))
        at = torch.where(tokens.any(1), tokens.shape[1] - 1 - tokens.flip(1).int().argmax(1), 0)
        concepts = texts[torch.arange(len(texts)), at].double()
        forget, retain = (self.scales(context, view, len(texts)) for view in (context.forget, context.retain))
        layers = [
            m for name, m in context.student.named_modules() if ".attn2." in name and name.endswith(("to_k", "to_v"))
        ]
        with context.counted("edit", {"concepts": concepts}, gradient=False), torch.no_grad():
            for layer in layers:
                layer.weight.copy_(
                    self.edited(
                        layer.weight.double(), concepts, concepts[:1], self.erase * forget, self.preserve * retain
                    )
                )

    def scales(self, context, view, count):
        """[prompts]: each prompt's share of a view, times how many prompts are in it."""
        import torch

        asked = [view[at]["prompt"] for at in torch.arange(len(view)).split(context.batch_size)]
        found = torch.cat(asked).bincount(minlength=count).to(context.device).double()
        return found / found.sum() * (found > 0).sum()

    def edited(self, weight, concepts, guide, erase, preserve):
        """The closed form for one matrix [out, in]: concepts [n, in] are sent to where ``guide`` [1, in] goes by scale
        ``erase`` [n], and stay by ``preserve`` [n]."""
        import torch

        old = (
            self.lamb * weight
            + (erase[:, None] * (guide @ weight.T)).T @ concepts
            + (preserve[:, None] * (concepts @ weight.T)).T @ concepts
        )
        seen = ((erase + preserve)[:, None] * concepts).T @ concepts
        return torch.linalg.solve(
            self.lamb * torch.eye(len(seen), dtype=seen.dtype, device=seen.device) + seen, old, left=False
        )
