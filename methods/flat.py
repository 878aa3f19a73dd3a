import typing

from mubench.methods.base import Corruption, Method, Term

DIVERGENCES = typing.Literal[
    "kl", "reverse_kl", "jeffrey", "pearson", "squared_hellinger", "neyman", "jensen_shannon", "total_variation"
]


class FLAT(Method):
    """Maximise the f-divergence between refusals and true answers of D_f, nothing else: no D_r, no reference model.

    L = −g(P(refusal)) + f*(P(true)), P being the mean probability of an answer's tokens and (g, f*) the variational
    pair of a ``divergence``. The pairs are the code's: its series for Jeffrey has three terms, its reverse_kl drops a
    logarithm, and reverse_kl, squared_hellinger and neyman lack a sign in g, so that they push refusals away (Nowozin
    et al. 2016 have e^{−x} there); use them to reproduce. Default: the code's, total variation.
    """

    paper = "Wang et al. 2024 (FLAT), Eq. 3; code UCSC-REAL/FLAT, dataloader.py:get_contrastive_loss"
    deviations = (
        "P is averaged over an answer's tokens; theirs over all positions, prompt and padding included.",
        "g and f* are applied to each example, as in the paper; in the authors' code to the average over a batch.",
        "Optimiser and batch size are the recipe's; theirs: AdamW, 64 (16 in 4 pieces).",
        "Rate and epochs are ours: 0.1 of the recipe's, 3 epochs; theirs: 1e-5, linear after warm-up, 5 epochs.",
    )
    official = {  # of TOFU with Llama 2 7B
        "optimizer": "adamw",
        "weight_decay": 0.01,
        "batch_size": 64,
        "lr": 1e-5,
        "epochs": 5,
        "lr_schedule": "linear",
        "warmup": 0.2,
    }
    schedule = "forget_only"
    requires = frozenset({"classes"})
    divergence: DIVERGENCES = "total_variation"
    lr_factor = 0.1
    epochs = 3
    search = {"divergence": ["total_variation", "kl"]}

    @property
    def terms(self):
        return (
            Term("forget", "loss", "refusal", -1.0, how=self.template, corruption=Corruption.DATA),
            Term("forget", "loss", "true", how=self.forgotten, corruption=Corruption.GRADIENT),
        )

    def functions(self):
        """(g, f*) of the divergence."""
        pairs = {
            "kl": (lambda x: x, lambda x: (x - 1).exp()),
            "reverse_kl": (lambda x: -x.exp(), lambda x: -1 - x),
            "jeffrey": (lambda x: x, lambda x: x + x**2 / 4 + x**3 / 16),
            "pearson": (lambda x: x, lambda x: x + x**2 / 4),
            "squared_hellinger": (lambda x: 1 - x.exp(), lambda x: (-x).exp() - 1),
            "neyman": (lambda x: 1 - x.exp(), lambda x: 2 - 2 * (1 - x).sqrt()),
            "jensen_shannon": (lambda x: (2 / (1 + (-x).exp())).log(), lambda x: ((1 + x.exp()) / 2).log()),
            "total_variation": (lambda x: x.tanh() / 2, lambda x: x.tanh() / 2),
        }
        return pairs[self.divergence]

    def template(self, context, batch, student, teacher):
        return self.functions()[0](self.probability(batch, student))

    def forgotten(self, context, batch, student, teacher):
        return self.functions()[1](self.probability(batch, student))

    def probability(self, batch, out):
        """[B]: the mean probability of an answer's tokens."""
        each = out.logits.softmax(-1).gather(-1, batch["labels"].clamp(min=0)[..., None])[..., 0]
        return (each * out.mask).sum(-1) / out.mask.sum(-1)
