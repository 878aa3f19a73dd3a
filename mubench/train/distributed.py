"""What several processes share of one run: the accelerator, the parts of a batch, and the shards of a model."""

import contextlib
import copy
import math
import os
from dataclasses import dataclass

import torch

from mubench.errors import MubenchError
from mubench.models import networks

LAUNCHERS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # say how many processes run


class Alone:
    """What stands for `accelerate.Accelerator` where one process runs in float32: nothing is shared, cast or scaled."""

    num_processes, process_index, is_main_process, mixed_precision = 1, 0, True, "no"

    def __init__(self):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def prepare(self, *objects):
        return objects if len(objects) > 1 else objects[0]

    def backward(self, loss):
        loss.backward()

    def clip_grad_norm_(self, parameters, most):
        torch.nn.utils.clip_grad_norm_(parameters, most)

    def reduce(self, tensor, reduction="sum"):
        return tensor

    def autocast(self):
        return contextlib.nullcontext()

    def no_sync(self, model):
        return contextlib.nullcontext()


def make_accelerator(precision="no"):
    """The process's `accelerate.Accelerator`; `Alone` where one process runs in float32.

    precision: ``no`` (float32), ``bf16`` or ``fp16``, both mixed.

    Raises `MubenchError` for a precision that this machine does not have, and where the launcher asks for another way
    of sharing a run out than DDP.
    """
    for other in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        if os.environ.get(f"ACCELERATE_USE_{other}", "false").lower() in ("true", "1"):
            raise MubenchError(
                f"a run is not shared out by the launcher's {other}: start it with --multi_gpu, and with mubench's"
                " --shard for a model that one GPU does not hold"
            )
    if precision == "no" and all(int(os.environ.get(name) or 1) == 1 for name in LAUNCHERS):
        return Alone()
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    state = AcceleratorState._shared_state  # accelerate has no public way to another precision in the same process
    if state and state.get("_mixed_precision") != precision:
        AcceleratorState._reset_state()
    try:
        return Accelerator(
            mixed_precision=precision,
            cpu=not torch.cuda.is_available(),
            kwargs_handlers=[DistributedDataParallelKwargs()],
        )
    except ValueError as error:
        raise MubenchError(f"precision {precision!r} is not to be had here: {error}") from error


@contextlib.contextmanager
def threads(count):
    """Runs torch on so many CPU threads (None: as it is), and convolutions of a GPU in float32, not in TF32."""
    before, cudnn = torch.get_num_threads(), torch.backends.cudnn
    torch.set_num_threads(count or before)
    try:
        with cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
            yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Piece:
    """The part of a batch that one process runs at once.

    on: the set its examples are of (``union``: both).
    positions: theirs in that set, [B].
    batch: number of examples of the whole batch, all processes together; infinite where the piece only keeps this
        process in step with the others, and counts for nothing.
    last: whether it is the last of its step.
    """

    on: str
    positions: torch.Tensor
    batch: float
    last: bool

    @property
    def counts(self):
        return self.batch < math.inf


def pieces(step, largest, accumulate, accelerator, views):
    """The pieces of a step that this process runs, in order.

    step: the step's batches, (set, positions) each.
    largest: the most examples a batch of the recipe has: a larger one, asked for by a method, is cut so that its pieces
        are no larger. Infinite where batches are never cut.
    accumulate: pieces of a batch.
    views: set → its examples. Where their lengths are known, those of a piece are of similar length.

    Every process gets as many pieces as the first: sharded layers are gathered by all or by none.
    """
    rank, world = accelerator.process_index, accelerator.num_processes
    found = []
    for on, positions in step:
        share = positions[rank::world]
        batch = len(positions) if len(share) else math.inf  # nothing left for this process: one example at weight 0
        share = share if len(share) else positions[:1]
        parts = max(1, accumulate) * (math.ceil(len(positions) / largest) if len(positions) > largest + 1 else 1)
        if parts > 1 and (lengths := views[on].lengths) is not None:
            share = share[lengths[share].argsort(stable=True)]
        cut = [(on, part, batch) for part in share.chunk(parts)]
        most = len(positions[::world].chunk(parts))  # of the first process
        found += cut + [(on, positions[:1], math.inf)] * (most - len(cut))
    return [Piece(*piece, last=number == len(found) - 1) for number, piece in enumerate(found)]


def search_unused(context, method):
    """Processes that exchange gradients look for parameters without one in each pass, if there may be such: where a
    term is not of the model's outputs, or the loss of an example does not reach all that is trained.
    """
    if context.accelerator.num_processes == 1:
        return
    handler = context.accelerator.ddp_handler
    handler.find_unused_parameters = any(term.measure == "rep" or term.how for term in method.terms)
    if not handler.find_unused_parameters:
        batch = context.batch(context.forget if len(context.forget) else context.retain, torch.arange(1), "unused")
        with context.own_randomness():
            loss = context.task.forward(context.student.eval(), batch).loss.sum()
        found = torch.autograd.grad(loss, [*context.trainable.values()], allow_unused=True)
        handler.find_unused_parameters = any(gradient is None for gradient in found)
        context.student.train(method.train_mode)


def summed(accelerator, *values):
    """Numbers, or tensors of one, summed over all processes: a list of floats."""
    if accelerator.num_processes == 1:
        return [float(value) for value in values]
    numbers = [torch.as_tensor(value, dtype=torch.float64, device=accelerator.device) for value in values]
    return accelerator.reduce(torch.stack(numbers), "sum").tolist()


class Shards:
    """The student of a context, its weights shared out among all processes while it trains (PyTorch's FSDP2).

    With the weights go gradients and optimiser states; a layer is whole only while it works. A copy of the student's
    modules is sharded and stands in its place in the context; the student itself waits without weights for `gather`.

    model: what forward passes go through.
    """

    def __init__(self, context):
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self.context = context
        # both are pairs of a student and the adapters in it (None without LoRA)
        self._whole = whole, _ = context.student, context.adapters
        aliases = {id(p): torch.nn.Parameter(p.detach(), p.requires_grad) for p in whole.parameters()}
        aliases |= {id(buffer): buffer for buffer in whole.buffers()}
        self._sharded = sharded, _ = copy.deepcopy(self._whole, aliases)
        self.model = context.accelerator.prepare_model(sharded, evaluation_mode=True)  # precision, and nothing else
        mesh = init_device_mesh(context.device.type, (context.accelerator.num_processes,))
        for module in [*map(sharded.get_submodule, networks.layers(sharded)), sharded]:
            fully_shard(module, mesh=mesh, reshard_after_forward=True)
        self._part()

    def _part(self):
        """The context's student is the sharded one, and the whole one holds no weights."""
        for weight in self._whole[0].parameters():
            weight.data = weight.data.new_empty(0)
        self._stand_in(self._sharded)

    def _stand_in(self, pair):
        student, adapters = pair
        self.context.note(student=student, adapters=adapters)

    def gather(self):
        """The context's student is whole on every process, its buffers those of the first."""
        from torch.distributed import broadcast

        (whole, _), (sharded, _) = self._whole, self._sharded
        shards = dict(sharded.named_parameters())
        for name, weight in whole.named_parameters():
            weight.data = shards[name].detach().full_tensor()
        for buffer in whole.buffers():
            broadcast(buffer, 0)
        self._stand_in(self._whole)

    @contextlib.contextmanager
    def whole(self):
        """Inside, the student is whole on every process, to be looked at; what is changed of it is lost."""
        self.gather()
        try:
            yield
        finally:
            self._part()


def refuse_shards(method, context):
    """Refuse a run that cannot be sharded, with a `MubenchError` that says why.

    Sharded layers are gathered by all processes at once. So no process may ask a model more often than the others, and
    no hook may read weights while they train.
    """
    if context.accelerator.num_processes == 1:
        raise MubenchError(
            "--shard shares the weights out among processes, and there is one: start it with `torchrun --nproc-per-node"
            " N -m mubench …` or `accelerate launch --multi_gpu`"
        )
    hook = next((name for name in ("before_step", "combine", "perturb") if getattr(method, name)), None)
    asks_again = any(term.how for term in method.terms) or (
        context.adapters and any(term.target == "original" for term in method.terms)
    )
    scalars = [name for name, p in context.student.named_parameters() if not p.ndim]
    if not method.shards:
        why = f"{method.name} reads or changes weights while it trains"
    elif hook:
        why = f"the hook {hook} of {method.name} needs whole weights and gradients"
    elif method.wrap:
        why = f"{method.name} holds the original whole, to wrap it"
    elif method.schedule == "union" and asks_again:
        why = f"{method.name} asks the model more often for some batches than for others"
    elif context.accelerator.mixed_precision == "fp16":
        why = "float16 gradients are scaled by each process alone"
    elif scalars:
        why = f"{scalars[0]} is a single number"
    else:
        return
    raise MubenchError(
        f"this run cannot be sharded: {why}; start it without --shard, every process then holds the whole model"
    )


def own(tensor):
    """This process's shard of a tensor, which other processes may hold parts of."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor  # a DTensor, whose import takes half a second


def own_part(tensor, like):
    """The part of a tensor, the same on all processes, that belongs to this process's shard of another."""
    if not hasattr(like, "to_local"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, like.device_mesh, like.placements).to_local()
