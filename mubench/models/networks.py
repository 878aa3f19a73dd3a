"""Models of `transformers` and of `diffusers`, made and read alike: the one place that knows them apart."""

import contextlib
import functools
import hashlib
import re
import sys
import threading
from pathlib import Path

from mubench.cache import file_hash, tensors_hash
from mubench.errors import MubenchError
from mubench.importing import importing

WRAPPER = "wrapper.json"  # the file of a folder that holds a wrapper instead of a network
WHOLE_MASKS = "mubench_whole_masks_"  # the names of these attention implementations begin so
# transformers replaces functions of its own and of torch while it reads a model: one thread at a time makes or reads
_MAKING = threading.RLock()


@functools.cache
def model_class(architecture):
    """The class of that name."""
    with importing():
        import transformers

        if hasattr(transformers, architecture):
            return getattr(transformers, architecture)
        import diffusers

        return getattr(diffusers, architecture)


def of_diffusers(cls):
    """Whether a class is one of `diffusers`, whose models are their own configurations."""
    return cls.__module__.startswith("diffusers")


def make(cls, options):
    """An untrained model of a class by the options of its configuration."""
    with _MAKING:
        return cls(**options) if of_diffusers(cls) else cls(cls.config_class(**options))


def make_like(cls, source, part="", **options):
    """An untrained model with the configuration of a checkpoint, its ``options`` replaced."""
    with _MAKING:
        if of_diffusers(cls):
            return cls.from_config(load_or_explain(source, cls.load_config, source, subfolder=part), **options)
        return cls(load_or_explain(source, cls.config_class.from_pretrained, source, **options))


def configuration(cls, source):
    """The configuration of a checkpoint of `transformers`."""
    return load_or_explain(source, cls.config_class.from_pretrained, source)


def pretrained(cls, source, part="", **options):
    """The model of a pretrained checkpoint (hub id or folder); a head of other size than ``options`` want is made
    anew.
    """
    more = {"ignore_mismatched_sizes": True, **options} if not of_diffusers(cls) else {"use_safetensors": True}
    with _MAKING, no_bars():
        return load_or_explain(source, cls.from_pretrained, source, subfolder=part, **more)


def recompute_activations(network):
    """Have a model keep each layer's input only, and compute the rest again in the backward pass (gradient
    checkpointing).
    """
    try:
        if hasattr(network, "gradient_checkpointing_enable"):
            network.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        else:
            network.enable_gradient_checkpointing()
    except (AttributeError, ValueError):
        raise MubenchError(
            f"{type(network).__name__} cannot recompute its activations: run it without recompute=true, and with a"
            " larger accumulate if memory is short"
        ) from None


def layers(network, head=None):
    """The names of a network's hidden layers, from input to output: the members of the list of modules that holds the
    most parameters (`transformers`' layers, a ResNet's stages), of a U-Net the blocks on the way down; of a network
    without lists what it consists of, but the ``head``."""
    from torch.nn import ModuleList, Sequential

    size = lambda module: sum(p.numel() for p in module.parameters())
    lists = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, (ModuleList, Sequential)) and len(module) > 1
    }
    lists = {name: module for name, module in lists.items() if not head or not f"{name}.".startswith(f"{head}.")}
    if "down_blocks" in lists:
        lists = {"down_blocks": lists["down_blocks"]}
    if not lists:
        return [name for name, module in network.named_children() if name != head and size(module)]
    name = max(lists, key=lambda name: size(lists[name]))
    found = [f"{name}.{i}".lstrip(".") for i, module in enumerate(lists[name]) if size(module)]
    return [name for name in found if name != head]


def projections(network, names):
    """Of each of these layers the name of the last linear map or convolution in it (of a transformer's layer: the one
    that ends the feed-forward part), where there is one."""
    maps = ("Linear", "Conv1d", "Conv2d", "Conv1D")
    found = (
        [inner for inner, module in network.get_submodule(name).named_modules() if type(module).__name__ in maps]
        for name in names
    )
    return [f"{name}.{inner[-1]}".rstrip(".") for name, inner in zip(names, found, strict=True) if inner]


@functools.lru_cache(maxsize=16)
def processor(kind, source, **options):
    """A tokenizer, image processor or feature extractor of `transformers`, ``kind`` being the name of its (Auto)
    class.
    """
    import transformers

    if kind == "AutoImageProcessor":
        options["backend"] = "pil"  # the same numbers whether torchvision is installed or not, and no word about it
    return load_or_explain(source, getattr(transformers, kind).from_pretrained, source, **options)


def local(source, part=""):
    """The folder of a checkpoint: itself, or where the hub's files (``id`` or ``id@revision``) are kept once they were
    downloaded (safetensors only)."""
    folder = Path(source)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        repo, _, revision = str(source).partition("@")
        patterns = [f"{part}/*.{end}" if part else f"*.{end}" for end in ("json", "safetensors")]
        folder = Path(
            load_or_explain(source, snapshot_download, repo, revision=revision or None, allow_patterns=patterns)
        )
    return folder / part if part and (folder / part).is_dir() else folder


def download(source, part=""):
    """Bring a checkpoint and its processor from the hub into the Hugging Face cache, from where they are read offline;
    what is there already, or begun, is gone on with. Weights are safetensors, or PyTorch's own where there are no
    others; of repositories that are one model only the top folder, of a ``part`` the other parts too."""
    from huggingface_hub import HfApi, snapshot_download

    if Path(source).is_dir():
        return
    files = [f for f in load_or_explain(source, HfApi().list_repo_files, source) if part or "/" not in f]
    weights = {
        end: [f for f in files if re.fullmatch(rf"(\w+/)?((pytorch|diffusion_pytorch)_)?model(-\d+-of-\d+)?\.{end}", f)]
        for end in ("safetensors", "bin")
    }
    safe = {Path(f).parent for f in weights["safetensors"]}
    chosen = weights["safetensors"] + [f for f in weights["bin"] if Path(f).parent not in safe]
    chosen += [f for f in files if Path(f).suffix in (".json", ".txt", ".model", ".jinja")]
    load_or_explain(source, snapshot_download, source, allow_patterns=chosen)


def read(cls, folder):
    """A model from a folder, and the names of the weights it asks for that are missing there or of another shape."""
    with _MAKING, no_bars():
        network, report = cls.from_pretrained(
            folder, use_safetensors=True, output_loading_info=True, ignore_mismatched_sizes=True
        )  # refused by the caller, in our words
    return network, sorted({*report["missing_keys"]} | {m[0] for m in report.get("mismatched_keys", ())})


def described(folder):
    """What kind of model a folder's config.json describes, and for how many classes (2 where it does not say, as in
    `transformers`).
    """
    import json

    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    return config.get("model_type") or config.get("_class_name"), len(config.get("id2label", "12"))


def kind(cls):
    """What `described` says of models of a class."""
    return cls.__name__ if of_diffusers(cls) else cls.config_class.model_type


def save(network, folder):
    """Write a network into a folder: its weights as safetensors and, where it has one, its configuration."""
    with no_bars():
        if hasattr(network, "save_pretrained"):
            network.save_pretrained(folder, safe_serialization=True)
            return
    from safetensors.torch import save_model

    Path(folder).mkdir(parents=True, exist_ok=True)
    save_model(network, str(Path(folder) / weights_name(network)))


def outputs(network):
    """How many classes or tokens the logits of a model of `transformers` are of; None of other models."""
    tokens = getattr(network, "get_output_embeddings", lambda: None)()
    if tokens is not None:
        return len(tokens.weight)
    return getattr(getattr(network, "config", None), "num_labels", None)


def save_configuration(network, folder):
    """Write a model's configuration, without its weights, to where `read` expects it."""
    (network.save_config if of_diffusers(type(network)) else network.config.save_pretrained)(folder)


def weights_name(network):
    """What `read` expects the file of a model's weights to be called."""
    return "diffusion_pytorch_model.safetensors" if of_diffusers(type(network)) else "model.safetensors"


def weights(folder):
    """The files of weights in a folder: one, or the shards of a large model."""
    return sorted(Path(folder).glob("*.safetensors"))


def check_source(source):
    """Raise where what should be a checkpoint is neither a folder nor the id of one on the hub."""
    is_hub_id = source.count("/") == 1 and not source.startswith((".", "/", "~"))
    if not Path(source).is_dir() and not is_hub_id:
        raise MubenchError(
            f"no checkpoint folder {source!r}: give a folder with model.safetensors and config.json, or a hub id"
        )


def weights_sha256(folder):
    """SHA-256 of the file of weights; of several, that of their hashes in hexadecimal."""
    hashes = [file_hash(path) for path in weights(folder)]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


@contextlib.contextmanager
def no_bars():
    """A bar for reading a small file says nothing; the user's own setting is put back."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


@contextlib.contextmanager
def whole_masks(network):
    """Inside, a model of `transformers` builds its attention masks whole, without first asking whether one masks
    anything: what vmap cannot ask. Its attention is the same as before.
    """
    configs = {id(module.config): module.config for module in network.modules() if hasattr(module, "config")}
    before = [(c, c._attn_implementation) for c in configs.values() if hasattr(c, "_attn_implementation")]
    _register_whole_masks()
    for config, kind in before:
        if kind in ("sdpa", "eager"):
            config._attn_implementation = WHOLE_MASKS + kind
    try:
        yield
    finally:
        for config, kind in before:
            config._attn_implementation = kind


@functools.cache
def _register_whole_masks():
    """Tells `transformers` of two more attention implementations: its own ones, with masks that are never left out."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward
    from transformers.masking_utils import eager_mask, sdpa_mask

    def eager_attention(layer, *args, **options):
        """The function of the model's own file: each file of `transformers` that offers a choice has one."""
        return sys.modules[type(layer).__module__].eager_attention_forward(layer, *args, **options)

    for kind, mask, attention in (("sdpa", sdpa_mask, sdpa_attention_forward), ("eager", eager_mask, eager_attention)):
        whole = functools.partial(_whole_mask, mask)
        AttentionMaskInterface.register(WHOLE_MASKS + kind, whole)
        AttentionInterface.register(WHOLE_MASKS + kind, attention)


def _whole_mask(mask, *args, **options):
    return mask(*args, **options | {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})


def load_or_explain(source, function, *args, **kwargs):
    """What a library's loader gives, or one sentence about what was not to be had."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        said, cause = [], error
        while cause:
            said, cause = [*said, type(cause).__name__], cause.__cause__
        why = str(error).strip().splitlines()
        remedy = (
            "with a network (or HF_ENDPOINT, a mirror) it is downloaded, without one it must be in the Hugging Face"
            " cache already; a download that broke off goes on where it stopped"
        )
        if "GatedRepoError" in said:
            remedy = "it is gated: accept its licence on its page on the hub, then `hf auth login`"
        elif "RepositoryNotFoundError" in said:
            remedy = "there is no such repository, or it is private: check the name, or `hf auth login`"
        raise MubenchError(
            f"{source} could not be loaded ({type(error).__name__}: {why[0][:160] if why else 'no reason given'}):"
            f" {remedy}"
        ) from error


def weights_hash(model):
    """SHA-256 over names, shapes and bytes of all weights and buffers, in alphabetical order."""
    return tensors_hash(model.state_dict())
