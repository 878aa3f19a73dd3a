"""Sophia (Liu et al. 2024), the second-order optimiser, as SOUL (Jia et al. 2024) unlearns with it."""

import torch


class Sophia(torch.optim.Optimizer):
    """θ ← θ·(1 − lr·weight_decay) − lr·sign(m)·min(|m| / (ρ·bs·h), 1), element by element.

    m and h are exponential averages of the gradient and of its square, the diagonal of a Gauss–Newton matrix up to
    ``bs``, from 0 and without bias correction. Defaults are SOUL's (Sophia's paper has betas 0.965 and 0.99); h is
    renewed in every step. SOUL's code averages m twice per step; this does once, as both papers write.
    """

    def __init__(self, params, lr, betas=(0.9, 0.95), rho=0.04, bs=5120, weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, rho=rho, bs=bs, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (beta1, beta2), scale = group["betas"], group["rho"] * group["bs"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["m"], state["h"] = torch.zeros_like(p), torch.zeros_like(p)
                m, h = (
                    state["m"].lerp_(p.grad, 1 - beta1),
                    state["h"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2),
                )
                ratio = (
                    (m.abs() / (scale * h)).nan_to_num_(0.0, posinf=1.0).clamp_(max=1.0)
                )  # 0/0: no gradient yet, no step
                p.mul_(1 - group["lr"] * group["weight_decay"]).addcmul_(m.sign(), ratio, value=-group["lr"])
        return loss
