"""Unlearned models that are more than one network: several, and what is made of their answers.

In a folder a wrapper is a file `WRAPPER` (name, version, options, parts) and, for each part but the original, a folder
of safetensors. The original is named by the hash of its weights. Files hold no code: only the wrappers of `TABLE` are
loaded.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticSerializationError

from mubench.errors import MubenchError
from mubench.models import networks
from mubench.models.networks import WRAPPER

FORMAT: Literal[1] = 1
ORIGINAL = "original"  # the part of this name is the model that was unlearned: it is named, not stored again
LARGEST = 2**16  # bytes of the file `WRAPPER`
OWN = ("options", "config")  # attributes of each wrapper, which are no parts
NAME = r"^[a-z][a-z0-9_]{0,63}$"  # of wrappers and parts
PART_FILES = re.compile(r"(generation_)?config\.json|[\w-]+\.safetensors(\.index\.json)?", re.ASCII)


class Wrapper(torch.nn.Module):
    """A model made of networks, its *parts*. A subclass declares them, and says by ``forward`` what it answers.

    name: of the wrapper in records and files; by default its class's, in snake_case.
    version: raised when its answers change.
    parts: names of its networks, each an attribute. ``original`` is the model that was unlearned.
    Options: what else it depends on, a pydantic model of JSON values; the checked values are the attribute ``options``.

    It is made of keyword arguments: its parts and its options. Called with the inputs of the task's model, it answers
    as that does: logits, or an object with ``.logits``. The first part's configuration is its own. Raises
    `MubenchError` for a missing part, a part that is no plain network, or options that are not declared.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    parts: ClassVar[tuple[str, ...]] = ()

    class Options(BaseModel):
        """Fields that a subclass of `Wrapper` declares; no others are taken."""

        model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        if "name" not in vars(cls):
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower().strip("_")

    def __init__(self, **given: Any) -> None:
        super().__init__()
        for name in (self.name, *self.parts):
            taken = name in self.parts and (hasattr(Wrapper, name) or name in OWN)
            if not re.fullmatch(NAME, name) or taken:
                raise MubenchError(
                    f"{name!r} cannot name a wrapper or a part: give a snake_case name such as assistant"
                )
        for name in self.parts:
            network = given.pop(name, None)
            if not isinstance(network, torch.nn.Module) or any(isinstance(m, Wrapper) for m in network.modules()):
                raise MubenchError(
                    f"part {name} of the wrapper {self.name} is {type(network).__name__}: give a torch.nn.Module that"
                    " is no wrapper itself"
                )
            self.add_module(name, network)
        self.options = self.checked(given)
        configured = [network for network in self.children() if hasattr(network, "config")]
        if configured:
            self.config = configured[0].config
        self.eval()

    @property
    def networks(self):
        """Part → its network; several may be one."""
        return {name: self.get_submodule(name) for name in self.parts}

    @classmethod
    def checked(cls, options):
        """The options of a dict, as the class declares them."""
        try:
            checked = cls.Options(**options)
            checked.model_dump_json()
        except ValidationError as error:
            raise MubenchError(f"options of the wrapper {cls.name}: {_first(error)}") from None
        except PydanticSerializationError as error:
            raise MubenchError(f"options of the wrapper {cls.name} are no JSON values: {error}") from None
        return checked

    @classmethod
    def loads(cls):
        """Whether it can be loaded from files: it is one of the package's own."""
        return TABLE.get(cls.name) is cls

    def generate(self, **inputs):
        """Tokens, as the first part that generates goes on, by the logits of the whole wrapper.

        inputs: as that part's ``generate`` takes them, ``input_ids`` and ``attention_mask`` among them; one beam.
        """
        leading = next((network for network in self.children() if hasattr(network, "generate")), None)
        if leading is None:
            raise MubenchError(f"no part of the wrapper {self.name} generates text")
        asked = []

        def answer(_, args, given, output):
            if not asked:  # the wrapper itself asks this part again
                asked.append(True)
                logits = self(**_whole_inputs(inputs, given), use_cache=False).logits
                output.logits = logits[:, -output.logits.shape[1] :]
                asked.clear()
            return output

        hook = leading.register_forward_hook(answer, with_kwargs=True)
        try:
            return leading.generate(**inputs, use_cache=False)
        finally:
            hook.remove()

    def get_submodule(self, target):
        try:
            return super().get_submodule(target)
        except AttributeError:
            raise MubenchError(
                f"the wrapper {self.name} has no layer {target!r}: it is made of {', '.join(self.parts)}, whose layers"
                " and representations are their own"
            ) from None

    def get_extra_state(self):
        """Name, version and options are part of its state, and so of the hash of its weights."""
        state = {"name": self.name, "version": self.version, "options": self.options.model_dump(mode="json")}
        return torch.tensor([*json.dumps(state, sort_keys=True).encode()], dtype=torch.uint8)

    def set_extra_state(self, state):
        if not state.equal(self.get_extra_state()):
            raise MubenchError(f"these are weights of another wrapper than {self.name} with {self.options!r}")

    def asdict(self):
        """What records and files say of it: name, version, options, parts, and whether it loads from files."""
        return {
            "name": self.name,
            "version": self.version,
            "options": self.options.model_dump(mode="json"),
            "parts": {
                name: {
                    "class": type(network).__name__,
                    "parameters": sum(p.numel() for p in network.parameters()),
                    "sha256": networks.weights_hash(network),
                    "stored": name != ORIGINAL,
                }
                for name, network in self.networks.items()
            },
            "loads": self.loads(),
        }

    def save(self, folder):
        """Write it into a folder: safetensors and JSON."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name, network in self.networks.items():
            if name != ORIGINAL:
                networks.save(network, folder / name)
        (folder / WRAPPER).write_text(
            json.dumps({"format": FORMAT, **self.asdict()}, indent=1) + "\n", encoding="utf-8"
        )


class LogitDifference(Wrapper):
    """The logits of the original less ``alpha`` times those of an assistant that knows D_f better than all else."""

    name = "logit_difference"
    parts = (ORIGINAL, "assistant")

    class Options(Wrapper.Options):
        alpha: Annotated[float, Field(ge=-100, le=100)] = 1.0

    def __init__(self, **given):
        super().__init__(**given)
        counts = [networks.outputs(network) for network in self.children()]
        if None not in counts and len({*counts}) > 1:
            raise MubenchError(
                f"the original's logits are of {counts[0]} classes or tokens, the assistant's {counts[1]}"
            )

    def forward(self, *args, **inputs):
        out, assistant = self.original(*args, **inputs), self.assistant(*args, **inputs)
        logits, others = self._logits(out), self._logits(assistant)
        if logits.shape != others.shape:
            raise MubenchError(f"the original's logits are {[*logits.shape]}, the assistant's {[*others.shape]}")
        difference = logits - self.options.alpha * others
        if isinstance(out, torch.Tensor):
            return difference
        out.logits = difference
        return out

    def _logits(self, out):
        logits = getattr(out, "logits", out)
        if not isinstance(logits, torch.Tensor):
            raise MubenchError(f"{self.name} needs networks that give logits, not {type(out).__name__}")
        return logits.float() if logits.element_size() < 4 else logits


TABLE = {cls.name: cls for cls in (LogitDifference,)}  # all that is ever loaded from files


def _whole_inputs(inputs, given):
    """What a language model is called with for the next token.

    inputs: of ``generate``.
    given: by which it calls its model, all tokens until now among them.
    """
    if given.get("decoder_input_ids") is not None:
        return {name: inputs[name] for name in ("input_ids", "attention_mask")} | {
            "decoder_input_ids": given["decoder_input_ids"]
        }
    attended = given.get("attention_mask")
    if attended is None:  # left out where it masks nothing
        attended = torch.ones_like(given["input_ids"])
    return {
        "input_ids": given["input_ids"],
        "attention_mask": attended,
        "position_ids": (attended.cumsum(1) - 1).clamp(min=0),
    }


# -- loading -----------------------------------------------------------------------------------------------------------


class Part(BaseModel):
    """A part, in the file `WRAPPER`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    class_: str = Field(alias="class", pattern=r"^[A-Za-z0-9_]{1,100}$")
    parameters: int
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    stored: bool


class Description(BaseModel):
    """The file `WRAPPER`."""

    model_config = ConfigDict(extra="forbid", strict=True)
    format: Literal[1]
    name: str = Field(pattern=NAME)
    version: int
    options: dict[str, Any]
    parts: dict[str, Part]
    loads: bool


def load(folder, original, read):
    """The `Wrapper` in a folder, of one of the classes in `TABLE`.

    original: () → the original network.
    read: (folder of a part, name of its class) → its network.

    Raises `MubenchError` for any other wrapper, undeclared options, a part that is missing or not the one described, or
    a file that does not belong there.
    """
    folder = Path(folder)
    described = describe(folder)
    cls = TABLE[described.name]
    options = cls.checked(described.options)
    _inspect(folder, cls)
    parts = {}
    for name, part in described.parts.items():
        parts[name] = network = read(folder / name, part.class_) if part.stored else original()
        if type(network).__name__ != part.class_ or (found := networks.weights_hash(network)) != part.sha256:
            other = f"hash {found[:12]}…" if type(network).__name__ == part.class_ else type(network).__name__
            raise MubenchError(
                f"{folder}: its {name} is not the {part.class_} with hash {part.sha256[:12]}… that {WRAPPER} describes"
                f" ({other})" + (": is it of another seed or checkpoint?" if name == ORIGINAL else "")
            )
    return cls(**parts, **dict(options))


def describe(folder):
    """The `Description` in a folder, of a wrapper in `TABLE`."""
    path = Path(folder) / WRAPPER
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            raise MubenchError(f"{path} is no regular file of at most {LARGEST:,} bytes")
        described = Description.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as error:
        why = _first(error) if isinstance(error, ValidationError) else error.strerror
        raise MubenchError(f"{path} describes no wrapper: {why}") from None
    if described.name not in TABLE:
        raise MubenchError(
            f"{path}: the wrapper {described.name} is none of mubench's ({', '.join(TABLE)}), and others are not loaded"
            " from files: their predictions can be recomputed, or the run done again by who has its code"
        )
    cls = TABLE[described.name]
    found = {name: part.stored for name, part in described.parts.items()}
    wanted = {name: name != ORIGINAL for name in cls.parts}
    if (described.version, found, described.loads) != (cls.version, wanted, True):
        raise MubenchError(
            f"{path} is not of {described.name} version {cls.version} with the parts {', '.join(cls.parts)}, of which"
            f" all but {ORIGINAL} are stored"
        )
    return described


def _inspect(folder, cls):
    """Raise where a stored part of a wrapper is missing, or a file lies there that is not of one."""
    stored = [name for name in cls.parts if name != ORIGINAL]
    for name in stored:
        if (folder / name).is_symlink() or not networks.weights(folder / name):
            raise MubenchError(f"{folder} lacks its part {name}: a folder of its own with safetensors")
    for path in folder.rglob("*"):
        place, inner = path.parent.relative_to(folder).as_posix(), path.name
        expected = inner == WRAPPER or inner in stored if place == "." else place in stored
        if not expected or place != "." and not (path.is_file() and PART_FILES.fullmatch(inner)):
            raise MubenchError(f"{folder}: {ascii(str(path.relative_to(folder)))[:120]} is no file of {cls.name}")


def _first(error):
    """The first thing that pydantic has against values, on one line."""
    first = error.errors(include_input=False, include_url=False)[0]
    words = ": ".join(filter(None, [".".join(map(str, first["loc"]))[:80], first["msg"]]))
    return "".join(c if c.isprintable() else " " for c in words)[:200]
