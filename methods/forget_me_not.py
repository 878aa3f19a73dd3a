from mubench.methods.base import Corruption, Method, Term


class ForgetMeNot(Method):
    """Attention resteering: on D_f no place of the picture is to attend to the tokens that name what is asked for.

    The loss is the norm of the probabilities that all heads of all cross-attention layers give to these tokens, over
    places and layers together: not a mean, so it grows with the root of their number. A text encoder that reads from
    left to right puts what is asked for into all later tokens too, the end's and the padding's, whence models read it
    when the name is shut off: ``onward`` takes these with it. Cross-attention is what is trained.
    """

    paper = "Zhang et al. 2023 (Forget-Me-Not), §3.1; code SHI-Labs/Forget-Me-Not, src/train_attn.py"
    deviations = (
        "The norm is taken of each example; theirs is over the batch, which is one prompt.",
        "The tokens are those that name the prompt's label; theirs may be found by textual inversion first.",
        "Cross-attention alone is trained; their configuration trains the whole U-Net (only_optimize_ca: false).",
        "All tokens after the name are taken with it; of these theirs takes those of the end (use_pooler).",
        "Optimiser and batch size are the recipe's; theirs: AdamW, batches of 1.",
        "Rate and epochs are ours: the recipe's rate, 10 epochs; theirs: 2e-6, 35 steps.",
    )
    official = {"optimizer": "adamw", "weight_decay": 0.01, "clip": 1.0, "batch_size": 1, "lr": 2e-6}
    prunes = False
    schedule = "forget_only"
    shards = False
    requires = frozenset({"prompts"})
    onward: bool = True
    lr_factor = 1.0
    epochs = 10
    search = {"epochs": (3, 30)}

    @property
    def terms(self):
        return (Term("forget", "loss", "none", how=self.attention, corruption=Corruption.DATA),)

    def trainable(self, student, head):
        return [module for name, module in student.named_modules() if name.endswith(".attn2")]

    def prepare(self, context):
        self.layers, self.caught = self.trainable(context.student, None), {}
        keep = lambda key: lambda module, inputs, out: self.caught.update({key: out})
        self.hooks = [
            part.register_forward_hook(keep((layer, name)))
            for layer in self.layers
            for name, part in (("q", layer.to_q), ("k", layer.to_k))
        ]

    def attention(self, context, batch, student, teacher):
        named = context.task.concepts(student.loss.device)[batch["prompt"]]
        named = named.cumsum(1) > 0 if self.onward else named
        probabilities = []
        for layer in self.layers:
            q, k = (self.caught[layer, part].unflatten(-1, (layer.heads, -1)).transpose(1, 2) for part in "qk")
            each = (q @ k.transpose(2, 3) * layer.scale).softmax(-1)
            probabilities.append(each.unflatten(0, (len(named), -1)).flatten(1, 3))  # noise levels, heads and places
        return self.norm(probabilities, named)

    def norm(self, probabilities, named):
        """[B]: of layers' probabilities [B, …, tokens], those of the tokens ``named`` [B, tokens]."""
        squares = sum(
            (p.square() * named.view(len(named), *[1] * (p.ndim - 2), -1)).flatten(1).sum(1) for p in probabilities
        )
        return (squares + 1e-20).sqrt()  # where a prompt was dropped nothing is named: no slope instead of none

    def finish(self, context):
        for hook in self.hooks:
            hook.remove()
