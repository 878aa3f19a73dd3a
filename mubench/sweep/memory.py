"""How much GPU memory a run needs, known before it starts: nothing is allocated, downloaded or trained.

Per parameter, in bytes (Rajbhandari et al. 2020, ZeRO, §3.1; what the engine holds is what is counted):

    weights       4 in float32 and in bf16 mixed precision, where they are the master copy; 2 as pure bf16
    gradients     as the weights, of trained parameters only
    optimiser     AdamW and Adam two moments as wide as what they train (8 in float32), SGD one if it has momentum
    teachers      a copy of the weights for each frozen model that the method's terms are pulled to; with LoRA the
                  original is the student without its adapters and costs nothing, unless the method wraps it at the end
    mask          5 (boolean mask, weights as they were) where the method finds one

and per example what autograd keeps for the backward pass: one forward pass of the task's own rows is traced with fake
tensors (shapes and no data), in batches of 2 and 4, which separates what grows with the batch from what does not
(weights cast to bf16). With recomputation (Chen et al. 2016, sublinear memory) that is each layer's input, and one
layer at a time with its gradients. (A small model whose shapes depend on the values of its data is run on four real
rows instead.) A teacher's pass holds one layer at a time. A mask is found before training, on whole batches. AdamW's
step takes as much again as the gradients when the activations are gone: ``working`` is the larger of the two. LoRA is
of rank 16 unless a share or another rank is asked for (`lora.solve`), its weights in float32. CUDA itself,
fragmentation and the gathering of sharded layers are left the tenth of a GPU that is not filled.
"""

import copy
import functools
from collections import defaultdict
from dataclasses import dataclass, field, replace

RANK = 16  # of LoRA, where none is asked for
FILLED = 0.9  # of a GPU
GIB = 2**30
SMALL = 2e8  # parameters of a model that may be run instead of traced


@dataclass(frozen=True)
class Footprint:
    """What the memory of a run depends on, of its model.

    parameters: their number.
    moving: method → how many it trains and how many stay, where not all move (`Method.trainable`).
    adapters: the number of parameters of its LoRA.
    at_once: batches that a teacher sees at once.
    tensors: autocast? → `Activations`; empty where they could not be traced.
    why: why they could not.
    """

    parameters: int
    moving: dict = field(default_factory=dict)
    adapters: int = 0
    at_once: int = 1
    tensors: dict = field(default_factory=dict)
    why: str = ""


@dataclass(frozen=True)
class Activations:
    """Bytes that autograd keeps of n examples.

    fixed, each: without recomputation, ``fixed`` + n × ``each``.
    inputs, layer: with recomputation, ``fixed`` + n × ``inputs`` and, one at a time, ``layer`` and its gradients.
    """

    fixed: float
    each: float
    inputs: float
    layer: float

    def bytes(self, examples, recompute=False):
        """Bytes of so many examples."""
        return self.fixed + examples * (self.inputs + 2 * self.layer if recompute else self.each)


def footprint(task, name, batch_size, methods=(), adapt=None):
    """The `Footprint` of a task's model.

    task, name: which model.
    batch_size: activations are traced on rows padded as in a batch of so many.
    methods: those whose runs are estimated.
    adapt: ``share`` or ``rank`` of LoRA (None: `RANK`).

    Raises `lora.Unreachable` for a share that the layers cannot carry.
    """
    import torch

    from mubench.errors import MubenchError
    from mubench.train import lora

    with torch.device("meta"):
        model = task.build(name, blank=True)
    count = sum(p.numel() for p in model.parameters())
    adapters = lora.solve(model, **adapt or {"rank": RANK}).parameters
    parts = {method.name: moving(method, copy.deepcopy(model), task.head) for method in methods}
    bare = Footprint(count, parts, adapters, 2 if task.keeps_outputs else 1)
    measures = set().union(*(method.needs for method in methods))
    try:
        batch = task.example(name, max(4, batch_size))
        batch = task.drawn(batch | {"index": torch.arange(len(next(iter(batch.values()))))}, 0)
    except MubenchError as error:
        return replace(bare, why=str(error))
    return _traced(bare, task, name, model, batch, measures)


def moving(method, model, head):
    """How many parameters a method trains, those it puts into the model included, and how many of the model stay."""
    own = {id(p): p.numel() for p in model.parameters()}
    modules = method.trainable(model, head)
    trained = {id(p): p.numel() for module in ([model] if modules is None else modules) for p in module.parameters()}
    return sum(trained.values()), sum(size for key, size in own.items() if key not in trained)


def _traced(bare, task, name, model, batch, measures):
    """A `Footprint` with its activations: of fake tensors, else, of a small model, of real ones."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        with FakeTensorMode(allow_non_fake_inputs=True) as fake:
            model = model.to_empty(device="cpu")
            return replace(bare, tensors=_activations(task, model, batch, measures, fake.from_tensor))
    except Exception as error:  # a library's: an operation whose shape depends on the values of the data
        if bare.parameters <= SMALL:
            model = task.build(name, blank=True)
            return replace(bare, tensors=_activations(task, model, batch, measures, lambda tensor: tensor))
        why = f"its forward pass cannot be traced ({type(error).__name__}: {str(error).splitlines()[0]})"
        return replace(bare, why=why)


def _activations(task, model, batch, measures, convert):
    """autocast? → `Activations`, from batches of 2 and 4: of 1, libraries take other ways."""
    import torch

    def forward(part):
        out = task.forward(model, part, features="rep" in measures)
        divergence = task.divergence(out, out) if "logit" in measures else None
        distance = task.distance(out, out) if "rep" in measures else None
        return out.loss, divergence, distance

    found = {}
    for cast in (False, True):
        kept = []
        for n in (2, 4):
            part = {k: convert(v[:n].clone()) if isinstance(v, torch.Tensor) else v[:n] for k, v in batch.items()}
            with torch.autocast("cpu", torch.bfloat16, enabled=cast):
                kept.append(saved(model.train(), functools.partial(forward, part)))
        each, inputs, layer = ((four - two) / 2 for two, four in zip(*kept, strict=True))
        found[cast] = Activations(kept[0][0] - 2 * each, each, inputs, layer)
    return found


def saved(model, forward):
    """Bytes that autograd keeps of a forward pass, parameters apart.

    model: whose pass it is; its layers are the members of its ``ModuleList`` that repeat a class most.
    forward: () → what the pass gives, which must live until then.

    Returns (all; all but what is inside the layers, their inputs included; the most that is inside one of them).
    """
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef  # equal where two tensors share their memory

    own = {StorageWeakRef(t.untyped_storage()) for t in (*model.parameters(), *model.buffers())}
    where, held, current = defaultdict(dict), [], [None]

    def keep(tensor):
        storage = tensor.untyped_storage()
        if (key := StorageWeakRef(storage)) not in own:
            held.append(storage)  # alive: its address stays its own
            where[current[0]].setdefault(key, storage.nbytes())
        return tensor

    def enter(layer, args, kwargs):
        for tensor in [a for a in (*args, *kwargs.values()) if isinstance(a, torch.Tensor) and a.requires_grad]:
            keep(tensor)
        current[0] = layer

    layers = _layers(model)
    hooks = [layer.register_forward_pre_hook(enter, with_kwargs=True) for layer in layers]
    hooks += [layer.register_forward_hook(lambda *_: current.__setitem__(0, None)) for layer in layers]
    try:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    outside, inside = where.pop(None, {}), [sum(part.values()) for part in where.values()]
    everything = {k: n for part in (outside, *where.values()) for k, n in part.items()}
    return sum(everything.values()), sum(outside.values()), max(inside, default=0)


def _layers(model):
    """The members of the longest of the model's ``ModuleList``s of one class; of several as long, all."""
    import torch

    lists = [
        m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len({type(layer) for layer in m}) == 1
    ]
    return [layer for m in lists if len(m) == max(map(len, lists)) for layer in m]


@dataclass(frozen=True)
class Setup:
    """How a run is laid out.

    weights: ``float32``, ``mixed`` (bf16 by autocast) or ``bf16``.
    lora: whether adapters are trained instead of the weights.
    accumulate: pieces of a batch, one after the other.
    recompute: gradient checkpointing.
    gpus: a shard of the model on each of so many.
    """

    weights: str = "mixed"
    lora: bool = False
    accumulate: int = 1
    recompute: bool = False
    gpus: int = 1


def need(model, method, recipe, setup):
    """What each GPU holds at the peak of a run, by part, in bytes.

    model: its `Footprint`.
    method, recipe: of the run.
    setup: its `Setup`.

    Without ``working`` where activations are not known.
    """
    parts_of_model = model.moving.get(method.name, (model.parameters, 0))
    trained, frozen = (model.adapters, model.parameters) if setup.lora else parts_of_model
    wide, base = (2 if setup.weights == "bf16" and not setup.lora else 4), (2 if setup.weights == "bf16" else 4)
    moments = 1 if recipe.optimizer == "sgd" and recipe.momentum else 0 if recipe.optimizer == "sgd" else 2
    share = 1 / setup.gpus
    parts = {
        "weights": (trained * wide + frozen * base) * share,
        "gradients": trained * wide * share,
        "optimiser": trained * wide * moments * share,
        "mask": 5 * trained * method.masks * share,
        "teachers": base * model.parameters * len(teachers(method, setup.lora)),
    }
    tensors = model.tensors.get(setup.weights != "float32")
    if not tensors:
        return parts
    step = trained * wide * share if moments == 2 else 0
    if setup.gpus > 1:
        # before the first step and after the last each process holds the whole model; a mask is found with whole
        # gradients
        step = max(step, (trained * wide * (1 + method.masks) + frozen * base) * (1 - share) - parts["optimiser"])
    return parts | {
        "working": max(step, _passing(model, method, recipe, setup, tensors, share, bool(parts["teachers"])))
    }


def _passing(model, method, recipe, setup, tensors, share, taught):
    """Bytes of activations at the peak of a forward and backward pass, or while a mask is found."""
    # casts to bf16 are of a layer at a time, as shards are gathered; none where the weights are bf16 themselves
    fixed = tensors.fixed * (setup.weights == "bf16" or 1 - share)
    batch = -(-recipe.batch_size // setup.gpus)
    piece = -(-batch // setup.accumulate)
    teaching = (batch * 2 if model.at_once == 2 else piece) * tensors.layer if taught else 0
    saliency = tensors.bytes(batch) if method.masks else 0
    return max(saliency - fixed, tensors.bytes(piece, setup.recompute) - fixed + teaching)


def teachers(method, lora=False):
    """Names of the frozen models a run holds next to the student."""
    frozen = {t.target for t in method.terms if t.target in ("original", "incompetent")}
    frozen -= {"original"} if lora else set()
    return frozen | ({"original"} if method.wrap else set())
