from mubench.methods.base import Method, Term


class Eul(Method):
    """Unlearning layers: adapters after the feed-forward part of each layer learn, while the model is frozen, to answer
    unlike the original
    on D_f and like it on D_r: α·KL(D_r) − KL(D_f) + λ·loss(D_r) − γ·loss(D_f), KL being of the student from the
    original.

    The adapters are low-rank and linear (LoRA, by `peft`) on the map that ends a layer, so they are merged into its
    weights in the end.
    """

    paper = "Chen & Yang 2023, Eq. 1–4; no code (SALT-NLP/Efficient_Unlearning has none for unlearning)"
    deviations = (
        "There is no official code: the authors' repository, SALT-NLP/Efficient_Unlearning, has none for unlearning.",
        "The paper's last term is the masked-language-model loss of D_f; ours is the task's own loss.",
        "The adapters are low-rank and linear; the paper's are layers of their own, fused by least squares.",
        "α, λ and γ are as others report them; rate and epochs are ours.",
    )
    adapts = False
    schedule = "joint"
    shards = False
    version = 2  # batch norms of the frozen model keep their statistics
    parameters = "dense external"
    alpha: float = 0.8
    task_weight: float = 1.0
    gamma: float = 0.2
    rank: int = 8
    lr_factor = 0.3
    epochs = 1
    search = {"alpha": (0.1, 1.0), "gamma": (0.0, 1.0), "rank": [4, 8, 16]}

    @property
    def terms(self):
        return (
            Term("retain", "logit", "original", weight=self.alpha),
            Term("forget", "logit", "original", weight=-1.0),
            Term("retain", "loss", "true", weight=self.task_weight),
            Term("forget", "loss", "true", weight=-self.gamma),
        )

    def trainable(self, student, head):
        import warnings

        from peft import LoraConfig, get_peft_model

        from mubench.models import networks

        projections = networks.projections(student, networks.layers(student, head))
        config = LoraConfig(r=self.rank, lora_alpha=self.rank, target_modules=projections)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what peft asks of transformers
            self.adapted = get_peft_model(student, config)
        return [part for name in projections for part in lora_parts(student.get_submodule(name))]

    def finish(self, context):
        self.adapted.merge_and_unload()


def lora_parts(layer):
    """The two matrices of each adapter in a layer."""
    return [*layer.lora_A.values(), *layer.lora_B.values()]
