"""How much GPU memory a run needs, known before it starts: nothing is allocated, downloaded or trained.

Per parameter, in bytes (Rajbhandari et al. 2020, ZeRO, §3.1; what the engine holds is what is counted):

    weights       4 in float32 and in bf16 mixed precision, where they are the master copy; 2 as pure bf16
    gradients     as the weights, of trained parameters only
    optimiser     AdamW and Adam two moments as wide as what they train (8 in float32), SGD one if it has momentum
    teachers      a copy of the weights for each frozen model that the method's terms are pulled to; with LoRA the
                  original is the student without its adapters and costs nothing
    mask          5 (boolean mask, weights as they were) where the method moves a part of the weights only

and per example what autograd keeps for the backward pass: one forward pass of the task's own rows is traced with fake
tensors (shapes and no data), in batches of 2 and 4, which separates what grows with the batch from what does not
(weights cast to bf16). With recomputation (Chen et al. 2016, sublinear memory) that is each layer's input, and one
layer at a time with its gradients. (A small model whose shapes depend on the values of its data is run on four real
rows instead.) A teacher's pass holds one layer at a time. A mask is found before training, on whole batches. AdamW's
step takes as much again as the gradients when the activations are gone: ``working`` is the larger of the two. LoRA is
of rank 16 unless a share or another rank is asked for (`lora.solve`), its weights in float32. CUDA itself,
fragmentation and the gathering of sharded layers are left the tenth of a GPU that is not filled.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace

RANK, FILLED, GIB, SMALL = 16, 0.9, 2**30, 2e8


@dataclass(frozen=True)
class Model:
    """Facts of a model that memory depends on. parameters; adapters: parameters of its LoRA; at_once: batches that
    a teacher sees at once; tensors: autocast? → `Activations`, empty where ``why`` says why they could not be
    traced."""

    parameters: int
    adapters: int = 0
    at_once: int = 1
    tensors: dict = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True)
class Activations:
    """Bytes that autograd keeps: ``fixed`` + n × ``each``; recomputing: ``fixed`` + n × ``inputs`` and, one at a time,
    ``layer`` and its gradients."""

    fixed: float
    each: float
    inputs: float
    layer: float

    def bytes(self, examples, recompute=False):
        return self.fixed + examples * (self.inputs + 2 * self.layer if recompute else self.each)


def facts(task, name, batch_size, measures=("loss",), adapt=None):
    """The `Model` of a task's model, its activations traced on rows padded as in a batch of ``batch_size``; measures:
    of a method;
    adapt: ``share`` or ``rank`` of LoRA. Raises `lora.Unreachable` for a share that the layers cannot carry."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    from mubench.train import lora
    from mubench.errors import MubenchError

    with torch.device("meta"):
        model = task.build(name, blank=True)
    count = sum(p.numel() for p in model.parameters())
    known = Model(count, lora.solve(model, **adapt or {"rank": RANK}).parameters, 2 if task.keeps_outputs else 1)
    try:
        batch = task.example(name, max(4, batch_size))
        batch = task.drawn(batch | {"index": torch.arange(len(next(iter(batch.values()))))}, 0)
    except MubenchError as error:
        return replace(known, why=str(error))
    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as fake:
            return replace(
                known, tensors=_activations(task, model.to_empty(device="cpu"), batch, measures, fake.from_tensor)
            )
    except Exception as error:  # a library's: an operation whose shape depends on the values of the data
        if count <= SMALL:
            return replace(
                known, tensors=_activations(task, task.build(name, blank=True), batch, measures, lambda tensor: tensor)
            )
        return replace(
            known, why=f"its forward pass cannot be traced ({type(error).__name__}: {str(error).splitlines()[0]})"
        )


def _activations(task, model, batch, measures, convert):
    """autocast? → `Activations`, from batches of 2 and 4: of 1, libraries take other ways."""
    import torch

    def forward():
        out = task.forward(model, part, features="rep" in measures)
        return (
            out.loss,
            "logit" in measures and task.divergence(out, out),
            "rep" in measures and task.distance(out, out),
        )

    found = {}
    for cast in (False, True):
        kept = []
        for n in (2, 4):
            part = {k: convert(v[:n].clone()) if isinstance(v, torch.Tensor) else v[:n] for k, v in batch.items()}
            with torch.autocast("cpu", torch.bfloat16, enabled=cast):
                kept.append(saved(model.train(), forward))
        each, inputs, layer = ((four - two) / 2 for two, four in zip(*kept))
        found[cast] = Activations(kept[0][0] - 2 * each, each, inputs, layer)
    return found


def saved(model, forward):
    """Bytes that autograd keeps of a forward pass, parameters apart: (all; all but what is inside the layers, their
    inputs included; the most that is inside one of them). Layers: the members of the model's ``ModuleList`` that repeat
    a class most."""
    import torch

    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    where, held, now = defaultdict(dict), [], [None]
    lists = [
        m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len({type(layer) for layer in m}) == 1
    ]
    layers = [layer for m in lists if len(m) == max(map(len, lists)) for layer in m]

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            held.append(storage)  # alive: its address stays its own
            where[now[0]].setdefault(storage._cdata, storage.nbytes())
        return tensor

    def enter(layer, args, kwargs):
        for tensor in [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor) and a.requires_grad]:
            keep(tensor)
        now[0] = layer

    hooks = [layer.register_forward_pre_hook(enter, with_kwargs=True) for layer in layers]
    hooks += [layer.register_forward_hook(lambda *_: now.__setitem__(0, None)) for layer in layers]
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    outside, inside = where.pop(None, {}), [sum(part.values()) for part in where.values()]
    everything = {k: n for part in (outside, *where.values()) for k, n in part.items()}
    return sum(everything.values()), sum(outside.values()), max(inside, default=0)


@dataclass(frozen=True)
class Setup:
    """How a run is laid out. weights: ``float32``, ``mixed`` (bf16 by autocast) or ``bf16``; accumulate: pieces of a
    batch, one after the other; recompute: gradient checkpointing; gpus: FSDP over so many; offload: ZeRO-3, model
    states in main memory."""

    weights: str = "mixed"
    lora: bool = False
    accumulate: int = 1
    recompute: bool = False
    gpus: int = 1
    offload: bool = False


def need(model, method, recipe, setup):
    """What each GPU holds at the peak of a run, by part, in bytes; without ``working`` where activations are not
    known.
    """
    trained, kept = (model.adapters, model.parameters) if setup.lora else (model.parameters, 0)
    wide, base = (2 if setup.weights == "bf16" and not setup.lora else 4), (2 if setup.weights == "bf16" else 4)
    moments = 1 if recipe.optimizer == "sgd" and recipe.momentum else 0 if recipe.optimizer == "sgd" else 2
    share = 0 if setup.offload else 1 / setup.gpus
    parts = {
        "weights": (trained * wide + kept * base) * share,
        "gradients": trained * wide * share,
        "optimiser": trained * wide * moments * share,
        "mask": 5 * trained * masked(method) * share,
        "teachers": base * model.parameters * len(teachers(method, setup.lora)),
    }
    step = trained * wide * share if moments == 2 else 0
    if (
        setup.gpus > 1
        # before the first step and after the last each process holds the whole model;
        # a mask is found with whole gradients
    ):
        step = max(step, (trained * wide * (1 + masked(method)) + kept * base) * (1 - share) - parts["optimiser"])
    tensors = model.tensors.get(setup.weights != "float32")
    if not tensors:
        return parts
    batch = -(-recipe.batch_size // setup.gpus)
    piece = -(-batch // setup.accumulate)
    fixed = tensors.fixed * (
        setup.weights == "bf16" or 1 - share
    )  # no casts; or of a layer at a time, as shards are gathered
    passing = (batch * 2 if model.at_once == 2 else piece) * tensors.layer if parts["teachers"] else 0
    saliency = tensors.bytes(batch) if masked(method) else 0
    return parts | {"working": max(step, saliency - fixed, tensors.bytes(piece, setup.recompute) - fixed + passing)}


def teachers(method, lora=False):
    """Names of the frozen models a run holds next to the student."""
    return {t.target for t in method.terms if t.target in ("original", "incompetent")} - (
        {"original"} if lora else set()
    )


def masked(method):
    """Whether only a part of the weights moves."""
    return method.parameters.startswith("sparse")
