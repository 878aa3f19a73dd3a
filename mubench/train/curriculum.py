"""SuperLoss (Castells et al. 2020): examples count the more the easier they are, whatever the task and the loss."""

import math

import torch

from mubench.errors import MubenchError


def lambert(y):
    """W(y), the solution of W·exp(W) = y at or above −1, in double precision; y is taken as −1/e where it is less."""
    y = y.double()
    p = (2 * (math.e * y + 1)).clamp(min=0).sqrt()
    series = -1 + p - p**2 / 3 + 11 * p**3 / 72  # Corless et al. 1996, Eq. 4.22: W is a square root there
    w = torch.where(y < 0, series, y.clamp(min=0).log1p())
    for _ in range(6):  # Halley's method
        f, above = w * w.exp() - y, (w + 1).clamp(min=1e-5)
        w = w - f / (w.exp() * above - (w + 2) * f / (2 * above))
    return torch.where(p < 1e-4, series, w)


def confidence(x):
    """σ = exp(−W(½·max(−2/e, x))) of x = (ℓ − τ)/λ: 1 at x = 0, e where all examples are easy, towards 0 for hard
    ones.
    """
    return (-lambert(x / 2)).exp().to(x.dtype)


class SuperLoss:
    """Maps losses [B] of a term to σ·(ℓ − τ) + λ·log²σ, σ a constant for the gradient, which is therefore σ times the
    loss's.

    lam: λ > 0, towards infinity all examples count alike.
    tau: what is neither easy nor hard: ``mean``, of all losses of the same term in earlier steps (in the first step
        there are none, and all count alike), ``log_classes``, the loss of a guess, or a number. Every term has a state
        of its own: losses on D_f and D_r are never mixed. Of terms that push away (negative weight) easy are still the
        examples with a small loss, those that are remembered best: they are pushed most, and what is forgotten already
        is let go.
    """

    def __init__(self, lam=1.0, tau="mean", classes=None):
        if not (isinstance(lam, (int, float)) and 0 < lam < math.inf):
            raise MubenchError(f"curriculum lambda {lam!r}: it must be a number above 0, such as 1")
        if tau == "log_classes" and not classes:
            raise MubenchError("curriculum tau log_classes: there are no classes here, use mean or a number")
        try:
            self.tau = tau if tau == "mean" else math.log(classes) if tau == "log_classes" else float(tau)
        except (TypeError, ValueError):
            raise MubenchError(f"curriculum tau {tau!r}: it must be mean, log_classes or a number") from None
        self.lam, self.counting = lam, True
        self._sums, self._seen = {}, {}  # term → [sum, count] of earlier steps' losses, and of this one's

    def __call__(self, losses, term=0):
        if self.tau == "mean" and self.counting:
            self._seen[term] = self._seen.get(term, 0) + torch.stack(
                [losses.detach().double().sum(), losses.new_tensor(len(losses)).double()]
            )
        if self.tau == "mean" and term not in self._sums:
            return losses
        total, count = self._sums[term] if self.tau == "mean" else (self.tau, None)
        tau = total if count is None else (total / count.clamp(min=1)).to(losses)
        w = lambert((losses.detach() - tau) / (2 * self.lam))
        weighted = (-w).exp().to(losses.dtype) * (losses - tau) + self.lam * w.square().to(losses.dtype)
        return weighted if count is None else torch.where(count > 0, weighted, losses)

    def step(self, terms=(0,), gather=None, device=None):
        """A step is done: its losses of the ``terms`` join their means.

        gather: sums a tensor over all processes.
        """
        if self.tau != "mean":
            return
        seen = torch.stack([self._seen.pop(term, torch.zeros(2, dtype=torch.double, device=device)) for term in terms])
        for term, counted in zip(terms, gather(seen) if gather else seen, strict=True):
            self._sums[term] = self._sums.get(term, 0) + counted


def make_curriculum(name=None, lam=1.0, tau="mean", classes=None):
    """The curriculum of that name, or None."""
    if name not in (None, "superloss"):
        raise MubenchError(f"curriculum {name!r}: superloss is the one there is")
    return SuperLoss(lam, tau, classes) if name else None
