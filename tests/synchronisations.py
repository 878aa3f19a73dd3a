"""Where a program would make the host wait for a GPU: counted on a stand-in, or on a GPU itself.

The stand-in is PyTorch's ``meta`` device. Its tensors have shapes and no values, so whoever reads one on the host, or
lets a shape depend on one, waits for the device. Copies from the host count too, but those that say ``non_blocking``.
"""

import contextlib
import traceback
import warnings

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

META = torch.device("meta")
DEVICE = torch.device("cuda") if torch.cuda.is_available() else META
MADE = (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)  # of numbers of the host
aten = torch.ops.aten
NONE = torch.zeros(1, dtype=torch.long, device=META)
FAKES = {  # whose results depend on values → some result
    aten.nonzero: lambda values: NONE.expand(1, values.ndim),
    aten.masked_select: lambda values: values.flatten()[:1],
    aten.equal: lambda values: True,
    aten.is_nonzero: lambda values: True,
    aten._unique2: lambda values: (values.flatten()[:1], NONE, NONE),
    aten.bincount: lambda values: NONE,
}


class _Made(TorchFunctionMode):
    """Tells of tensors that are made of the host's numbers: no operation that `_StandIn` sees."""

    def __init__(self, told):
        self.told = told

    def __torch_function__(self, function, types, args=(), kwargs=None):
        made = function(*args, **kwargs or {})
        if function in MADE and made.device == META and not any(on(META, value) for value in args):
            self.told("copy to the device")
        return made


class _StandIn(TorchDispatchMode):
    """Tells of each operation that would wait, and goes on with values that are as good as any."""

    def __init__(self, told):
        super().__init__()
        self.told = told

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs, packet = kwargs or {}, function.overloadpacket
        first = args[0] if args else None
        if packet is aten._local_scalar_dense and on(META, first):
            self.told("a number is read")
            return first.dtype.is_floating_point and 0.5 or 1
        if packet in FAKES and on(META, first):
            self.told(packet.__name__)
            return FAKES[packet](first)
        if packet is aten._to_copy and "device" in kwargs and first.device != kwargs["device"]:
            if not kwargs.get("non_blocking") and META in (first.device, kwargs["device"]):
                self.told(f"copy from {first.device} to {kwargs['device']}")
            if on(META, first):
                return torch.zeros(first.shape, dtype=kwargs.get("dtype") or first.dtype)
        if packet is aten.copy_ and first.device != args[1].device:
            if not (kwargs.get("non_blocking") or len(args) > 2 and args[2]):
                self.told(f"copy from {args[1].device} to {first.device}")
            if on(META, args[1]):
                return first
        if packet in (aten.index, aten.index_put, aten.index_put_) and on(META, first):
            args = first, [self._index(index) for index in args[1]], *args[2:]
        return function(*args, **kwargs)

    def _index(self, index):
        if index is None:
            return None
        if not on(META, index):
            self.told("an index of the host")
        elif index.dtype in (torch.bool, torch.uint8):
            self.told("a mask as an index")
            return NONE
        return index


def on(device, value):
    return isinstance(value, torch.Tensor) and value.device == device


def _line():
    """Where the program is: the line of this project and, where that called a library, its file in there."""
    frames = [f for f in traceback.extract_stack() if f.filename != __file__]
    own = max(number for number, frame in enumerate(frames) if "-packages" not in frame.filename)
    inner = [f for f in frames[own:] if "/torch/" not in f.filename][-1]
    called = f", of {'/'.join(inner.filename.split('/')[-3:])}:{inner.lineno}" if inner is not frames[own] else ""
    return f"{'/'.join(frames[own].filename.split('/')[-3:])}:{frames[own].lineno} {frames[own].name}{called}"


@contextlib.contextmanager
def noted():
    """Gives a list of what waits in the block, a text each: the reason and the line."""
    found = []
    told = lambda why: found.append(f"{why}, {_line()}")
    if DEVICE == META:
        with _Made(told), _StandIn(told):
            yield found
        return
    before, show = torch.cuda.get_sync_debug_mode(), warnings.showwarning
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *rest: (
            told(str(message)) if "synchronizing CUDA operation" in str(message) else show(message, *rest)
        )
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode(before)


@contextlib.contextmanager
def of_steps():
    """Gives a list with, for each step of any optimiser in the block, what waited since the step before."""
    steps, begun = [], 0

    def done(*_):
        nonlocal begun
        steps.append(found[begun:])
        begun = len(found)

    handle = register_optimizer_step_post_hook(done)
    try:
        with noted() as found:
            yield steps
    finally:
        handle.remove()
