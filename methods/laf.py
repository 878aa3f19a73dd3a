from mubench.methods.base import Method, Term


class Laf(Method):
    """Label-agnostic forgetting: the representations of D_f leave the distribution they came from, those of D_r keep
    theirs; no labels.

    Two variational autoencoders learn the original's representations, one of D_r, one of D_f. With m an example's
    squared reconstruction error and s = exp(m / (m + 1)), the first loss is s on D_r by the one less s on D_f by the
    other. The second aligns with the original by cosines: log( exp(1 − cos on D_r) / Σ exp((1 − cos on D_f) /
    ``temperature``) ), the sum over the D_f batch, so the two sets come apart.
    """

    paper = "Shen et al. 2024 (LAF), Eq. 5–9; code ShaofeiShen768/LAF, VUnlearning.py"
    deviations = (
        "An epoch ends with the longer set; theirs with the shorter (epoch_length=shorter).",
        "A step is of both losses' sum; theirs is of each in turn, with an optimiser and a rate each.",
        "Losses are means over the batch; theirs are sums.",
        "The first autoencoder is fitted to D_r, as in the paper; in the authors' notebook to all of D.",
        "The head's optional repair by labels is left out.",
        "The optimiser is the recipe's; theirs is Adam without weight decay.",
        "Gradients are clipped to norm 1; theirs are not.",
        "Rate and epochs are ours: 0.03 of the recipe's rate, 1 epoch; theirs: 1e-5 to 1e-4, 20 or 40 epochs.",
    )
    official = {  # their rates are 1e-5 to 5e-5 for the first loss and 4e-5 to 1e-4 for the second: here one for both
        "optimizer": "adam",
        "weight_decay": 0.0,
        "clip": 0.0,
        "lr": 5e-5,
        "epochs": 20,
        "epoch_length": "shorter",
    }
    schedule = "joint"
    temperature: float = 5.0
    latent: int = 16
    vae_epochs: int = 10
    vae_lr: float = 1e-3
    lr_factor = 0.03
    epochs = 1
    search = {"temperature": (1.0, 10.0), "latent": [8, 16, 32]}

    @property
    def terms(self):
        return (
            Term("retain", "rep", "none", how=self.unusual),
            Term("forget", "rep", "none", weight=-1.0, how=self.no_more_usual),
            Term("retain", "rep", "original", how=self.turned),
            Term("forget", "rep", "original", weight=-1.0, how=self.all_turned, batchwise=True),
        )

    def prepare(self, context):
        self.retained, self.forgotten = (self.autoencoder(context, on) for on in ("retain", "forget"))

    def unusual(self, context, batch, student, teacher):
        return unusualness(student.features, reconstructed(self.retained, student.features))

    def no_more_usual(self, context, batch, student, teacher):
        return unusualness(student.features, reconstructed(self.forgotten, student.features))

    def turned(self, context, batch, student, teacher):
        return turning(student.features, teacher.features)

    def all_turned(self, context, batch, student, teacher):
        return (turning(student.features, teacher.features) / self.temperature).logsumexp(0).expand(len(student.loss))

    def autoencoder(self, context, on):
        """(encode, decode) of the original's representations of a set; an encoding is the mean and the log σ."""
        import torch
        from torch.nn import Linear, ReLU, Sequential

        view = getattr(context, on)
        features = self.features(context, view)
        width, rng = features.shape[1], context.generator(f"autoencoder/{on}")
        hidden = max(self.latent, width // 2)
        parts = context.fresh(
            lambda: torch.nn.ModuleList(
                [
                    Sequential(Linear(width, hidden), ReLU(), Linear(hidden, 2 * self.latent)),
                    Sequential(Linear(self.latent, hidden), ReLU(), Linear(hidden, width)),
                ]
            )
        )
        optimizer = torch.optim.Adam(parts.parameters(), lr=self.vae_lr)
        for _ in range(self.vae_epochs):
            for at in torch.randperm(len(view), generator=rng).split(context.batch_size):
                given = features[at.to(features.device)]
                optimizer.zero_grad()
                with context.counted("autoencoder", {"features": given}, network=parts):
                    mean, log_sigma = parts[0](given).chunk(2, -1)
                    drawn = mean + log_sigma.exp() * torch.randn(mean.shape, generator=rng).to(mean)
                    vae_loss(parts[1](drawn), given, mean, log_sigma).backward()
                optimizer.step()
        return parts.requires_grad_(False).to(next(context.student.parameters()).dtype)

    def features(self, context, view):
        """[n, H]: the original's representations of a view."""
        import torch

        pieces = []
        for at in torch.arange(len(view)).split(context.batch_size):
            batch = context.batch(view, at, "features")
            with context.counted("features", batch, gradient=False):
                pieces.append(context.teacher("original").answer(batch, slice(None), features=True).features.float())
        return torch.cat(pieces)


def reconstructed(autoencoder, features):
    encode, decode = autoencoder
    return decode(encode(features).chunk(2, -1)[0])


def unusualness(features, reconstructed):
    """[B]: exp(m / (m + 1)), m the squared error."""
    error = (features - reconstructed).square().sum(-1)
    return (error / (error + 1)).exp()


def turning(student, teacher):
    """[B]: 1 − cosine."""
    from torch.nn.functional import cosine_similarity

    return 1 - cosine_similarity(student, teacher, dim=-1)


def vae_loss(out, given, mean, log_sigma):
    """Squared error plus 0.025 × the divergence of the code from a standard normal, per example."""
    kl = -0.5 * (1 + 2 * log_sigma - mean.square() - (2 * log_sigma).exp()).sum()
    return ((out - given).square().sum() + 0.025 * kl) / len(given)
