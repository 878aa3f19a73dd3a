"""LoRA (Hu et al. 2022) as an option of any run: how many ranks which layers get, and the adapters themselves, by
`peft`.

A share is of the original's parameter count. All layers that a forward pass goes through get the same rank, up to their
own (the
smaller side of their matrix: beyond it an adapter adds parameters and nothing else), and what is left of the share goes
rank by rank to those that have the fewest, the last first. A classification head is a layer like any other, as the
original's is trained already; embeddings and the output layer of language models are adapted only where the others
cannot carry the share. Left out are weights that are tied, frozen, or applied by something else than their layer's own
forward pass, and grouped or dilated convolutions. The updates are not scaled (alpha = rank). All else stays as it was,
norms, biases and the statistics of batch norms, so that the student without its adapters *is* the original.
"""

import bisect
import contextlib
import copy
import re
import warnings
from collections import Counter
from dataclasses import dataclass

from mubench.errors import MubenchError
from mubench.train.trainable import keep_statistics

KINDS = ("Linear", "Conv1D", "Conv1d", "Conv2d", "Conv3d", "Embedding")
NEAR = 1.0  # points by which the share reached may differ from the one asked for


class Unreachable(MubenchError):
    """The layers cannot carry the share that was asked for."""


@dataclass(frozen=True)
class Ranks:
    """ranks: layer → rank of its adapter.
    parameters: of all adapters.
    share: those in per cent of the model's.
    """

    ranks: dict
    parameters: int
    share: float


def adaptable(model):
    """Layer → (parameters that a rank takes, the layer's own rank, whether it is spared if the others suffice)."""
    places = Counter(id(p) for _, p in model.named_parameters(remove_duplicate=False))
    head = getattr(model, "get_output_embeddings", lambda: None)()
    found = {}
    for name, module in model.named_modules():
        plain = (
            name and type(module).__name__ in KINDS and places[id(module.weight)] == 1 and module.weight.requires_grad
        )
        if (
            plain
            and getattr(module, "groups", 1) == 1
            and {*getattr(module, "dilation", [1])} == {1}
            and getattr(module, "padding_mode", "zeros") == "zeros"
        ):
            rows, columns = len(module.weight), module.weight[0].numel()
            found[name] = rows + columns, min(rows, columns), type(module).__name__ == "Embedding" or module is head
    return found


def solve(model, share=None, rank=None, used=None):
    """The `Ranks` for a ``share`` in per cent of the model's parameters, or for a ``rank``.

    used: names of layers that may be adapted (default: all).

    Raises `Unreachable` with the nearest share where this one is more than a point away.
    """
    total = sum(p.numel() for p in model.parameters())
    every = {n: layer for n, layer in adaptable(model).items() if used is None or n in used}
    wanted = None if share is None else share / 100 * total
    for spare in (True, False):
        known = {n: (cost, own) for n, (cost, own, spared) in every.items() if not (spare and spared)}
        size = lambda r, known=known: sum(cost * min(r, own) for cost, own in known.values())
        most = max((own for _, own in known.values()), default=0)
        if known and (wanted is None or size(most) >= wanted):
            break
    r = rank if wanted is None else bisect.bisect_right(range(1, most + 1), wanted, key=size)
    ranks = {n: min(r, own) for n, (_, own) in known.items()}
    left = 0 if wanted is None else wanted - sum(known[n][0] * r for n, r in ranks.items())
    while fit := [n for n, (cost, own) in reversed(known.items()) if ranks[n] < own and cost <= left]:
        lowest = min(fit, key=ranks.get)
        ranks[lowest], left = ranks[lowest] + 1, left - known[lowest][0]
    ranks = {n: r for n, r in ranks.items() if r}
    parameters = sum(known[n][0] * r for n, r in ranks.items())
    reached = 100 * parameters / total
    if not ranks or wanted is not None and abs(reached - share) > NEAR:
        raise Unreachable(
            f"LoRA of {share or rank:g} {'%' if share else 'ranks'}: the layers of {type(model).__name__} carry at most"
            f" {100 * size(most) / total:.4g} % of its parameters at their own ranks"
            + (f"; the nearest share is {reached:.4g}" if ranks else " and nothing near the share asked for")
        )
    return Ranks(ranks, parameters, reached)


def used(model, run):
    """Names of the layers that ``run()``, a forward pass, goes through."""
    called = set()
    hooks = [
        module.register_forward_pre_hook(lambda *_, name=name: called.add(name))
        for name, module in model.named_modules()
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return called


class Adapters:
    """The adapters of a model, put in place: the model keeps its class, and nothing but them is trained until
    `merge`.
    """

    def __init__(self, model, plan):
        from peft import LoraConfig
        from peft.tuners.lora import LoraModel

        self.model, self.plan, self.saved = model, plan, None
        self._flags = [(p, p.requires_grad) for p in model.parameters()]
        exact = {f"^{re.escape(name)}": rank for name, rank in plan.ranks.items()}
        self.config = LoraConfig(
            target_modules="|".join(map(re.escape, plan.ranks)), rank_pattern=exact, alpha_pattern=exact
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that one kind of layer stores its weights transposed
            self._peft = LoraModel(model, self.config, "default")
        for layer in map(model.get_submodule, plan.ranks):
            for fact in getattr(
                layer.base_layer, "__constants__", ()
            ):  # models that pad or measure by themselves ask for a stride
                if not hasattr(layer, fact):
                    setattr(layer, fact, getattr(layer.base_layer, fact))
        self._kept = keep_statistics(model.modules())

    @contextlib.contextmanager
    def off(self):
        """Inside, the model is the original, in eval mode."""
        training = self.model.training
        self.model.eval()
        self._peft.disable_adapter_layers()
        try:
            yield self.model
        finally:
            self._peft.enable_adapter_layers()
            self.model.train(training)

    def original(self):
        """A copy of the model without its adapters, as a network of its own."""
        bare = copy.deepcopy(self)
        bare._peft.unload()
        return bare.model

    def rescale(self, factor, start):
        """BA ← B₀A₀ + ``factor`` · (BA − B₀A₀), exactly, A₀ and B₀ being those of ``start`` (name → tensor). Where B₀A₀
        is 0, as before the first step, B is multiplied; else both changes stand side by side, [A₀; A] and [(1 − factor)
        B₀, factor B], in twice the ranks."""
        import torch

        for first in [n for n in start if re.search(r"\.lora_(embedding_)?A\.", n)]:
            second = re.sub(r"(\.lora_(embedding_)?)A\.", r"\1B.", first)
            a, b = (self.model.get_parameter(name) for name in (first, second))
            a0, b0 = start[first], start[second]
            b.data = factor * b.data
            if a0.any() and b0.any():
                a.data, b.data = torch.cat([a0, a.data]), torch.cat([(1 - factor) * b0, b.data], 1)
                for pattern in (self.config.rank_pattern, self.config.alpha_pattern):
                    pattern[f"^{re.escape(first.split('.lora_')[0])}"] = len(a)

    def merge(self):
        """Add the adapters to the weights: afterwards the model is a plain one, without adapters."""
        from peft import get_peft_model_state_dict

        state = get_peft_model_state_dict(
            self._peft, self._peft.state_dict(), adapter_name="default", save_embedding_layers=False
        )
        self.saved = {f"base_model.{name}": t.detach().cpu().contiguous() for name, t in state.items()}
        self._peft.merge_and_unload()
        for handle in self._kept:
            handle.remove()
        for parameter, flag in self._flags:
            parameter.requires_grad_(flag)

    def save_pretrained(self, folder, **_):
        """Write the adapters alone, as ``peft.PeftModel.from_pretrained(original, folder)`` reads them."""
        from safetensors.torch import save_file

        self.config.save_pretrained(folder)
        save_file(self.saved, folder / "adapter_model.safetensors")

    def asdict(self):
        return {"share": self.plan.share, "parameters": self.plan.parameters, "ranks": self.plan.ranks}


class Unadapted:
    """The original model for methods that ask for more than a teacher's answers.

    Called, it answers as the student without its adapters; its parameters are the student's, those of the adapters as
    they were when this was made.

    student: the model.
    adapters: () → the `Adapters` that are in it now.
    """

    def __init__(self, student, adapters):
        self._adapters, self.module = adapters, student
        self._before = {n: p.detach().clone() for n, p in student.named_parameters() if p.requires_grad}

    def __call__(self, *args, **kwargs):
        with self._adapters().off() as model:
            return model(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.module, name)

    def named_parameters(self):
        return ((n, self._before.get(n, p.detach())) for n, p in self.module.named_parameters())

    def parameters(self):
        return (p for _, p in self.named_parameters())

    def state_dict(self):
        return self.module.state_dict() | self._before
