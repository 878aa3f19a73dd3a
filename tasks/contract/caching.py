"""Results that are kept as long as the instance they belong to, and no longer."""

import contextlib
import functools
import sys

RESULTS = "_results"  # the attribute of an instance that holds them


def cached_method(method):
    """The method, its results kept with the instance, one for each combination of arguments."""

    @functools.wraps(method)
    def cached(self, *arguments, **named):
        results = vars(self).setdefault(RESULTS, {})
        key = (method.__qualname__, arguments, tuple(sorted(named.items())))
        if key not in results:
            with _not_of_inference():
                results[key] = method(self, *arguments, **named)
        return results[key]

    return cached


def _not_of_inference():
    """Inside, tensors are made that training can use too, even in the middle of an evaluation."""
    torch = sys.modules.get("torch")
    return torch.inference_mode(False) if torch else contextlib.nullcontext()


def uncached(instance):
    """The attributes of an instance, name → value, without what `cached_method` and ``cached_property`` keep there."""
    kept = lambda name: isinstance(getattr(type(instance), name, None), functools.cached_property)
    return {name: value for name, value in vars(instance).items() if name != RESULTS and not kept(name)}
