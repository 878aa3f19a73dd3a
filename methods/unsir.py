from mubench.methods.base import Corruption, Method, Term, first


class Unsir(Method):
    """Impair with error-maximising noise, then repair: noise takes the place of D_f, which itself is not seen again.

    Of each class in D_f ``noises`` inputs of pure noise learn, by Adam, what the original gets most wrong: they
    minimise −loss(noise, class) + ``penalty_weight`` · mean Σ noise². Then the student is trained on the noise with the
    classes' labels beside D_r for ``impair`` epochs, and on D_r alone in the others; D_r is a random ``retain_share``.
    Made to forget a class; of a D_f with all classes it damages what each has in common.
    """

    paper = "Tarun et al. 2023 (UNSIR), Eq. 2–3 and Algorithm 1; code vikram2000b/Fast-Machine-Unlearning"
    deviations = (
        "Noise keeps its class; the official notebook labels all of it 0, a slip.",
        "20 noises a class are learnt and seen; theirs 256, of which the notebook sees three, 20 times, a slip.",
        "Noise is learnt against the original in eval mode; the notebook's is in train mode.",
        "A step takes a batch of noise and one of D_r; theirs are shuffled into one loader.",
        "D_r is a random fifth; theirs the first 1000 pictures of each class.",
        "Optimiser and batch size are the recipe's; theirs: Adam without weight decay, batches of 256.",
        "Gradients are clipped to norm 1; theirs are not.",
        "The rate is ours, 0.3 of the recipe's; theirs 0.02 to impair and 0.01 to repair.",
    )
    official = {  # epoch 2 repairs, at half the rate; 256 noises a class cost more than a small model's retraining
        "optimizer": "adam",
        "weight_decay": 0.0,
        "clip": 0.0,
        "batch_size": 256,
        "lr": 0.02,
        "milestones": (1,),
        "lr_decay": 0.5,
    }
    schedule = "joint"
    requires = frozenset({"classes", "signal"})
    noises: int = 20
    noise_steps: int = 40
    noise_lr: float = 0.1
    penalty_weight: float = 0.1
    retain_share: float = 0.2
    impair: int = 1
    lr_factor = 0.3
    epochs = 2
    search = {"noise_lr": (0.01, 1.0, "log"), "penalty_weight": (0.01, 1.0, "log"), "retain_share": (0.1, 1.0)}

    @property
    def terms(self):
        return Term("forget", "loss", "true", when=first(self.impair), corruption=Corruption.DATA), Term(
            "retain", "loss", "true"
        )

    def prepare(self, context):
        import torch

        from mubench.examples import Examples

        batch = context.batch(context.forget, torch.arange(len(context.forget)), "noise")
        kinds = batch["labels"].unique()
        tensors = {name: values for name, values in batch.items() if isinstance(values, torch.Tensor)}
        name = next(name for name, values in tensors.items() if values.is_floating_point())
        start = torch.randn(len(kinds) * self.noises, *batch[name].shape[1:], generator=context.generator("noise"))
        labels = kinds.repeat_interleave(self.noises)
        noise, _ = self.learnt(context, name, start.to(batch[name]), labels)
        context.replace(
            forget=Examples({name: noise.cpu(), "labels": labels.cpu()}),
            retain=context.sample(context.retain, self.retain_share),
        )

    def learnt(self, context, name, noise, labels):
        """The noise after learning, and its losses at every step."""
        import torch

        noise, losses = noise.clone().requires_grad_(), []
        optimizer = torch.optim.Adam([noise], lr=self.noise_lr)
        for _ in range(self.noise_steps):
            batch = {name: noise, "labels": labels, "index": torch.arange(len(labels))}
            optimizer.zero_grad()
            with context.counted("noise", batch):
                error = context.task.forward(context.original, batch).loss.mean()
                loss = self.penalty_weight * noise.square().flatten(1).sum(1).mean() - error
                loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return noise.detach(), losses
