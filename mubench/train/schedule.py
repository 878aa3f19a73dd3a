"""What each step sees: the batches of an epoch, by the method's schedule."""

from itertools import cycle, islice

import torch

from mubench.errors import MubenchError


class Schedule:
    """The steps of a run.

    method: its ``schedule``, ``epoch_length`` and `select` hook are followed.
    context: gives the sets, their batch sizes and the order.
    shuffle: false keeps examples in the order of their set (replaying somebody's batches).
    views: set → its examples; ``union`` is D_f followed by D_r.
    """

    def __init__(self, method, context, shuffle=True):
        self.method, self.context, self.shuffle = method, context, shuffle
        self.order = context.generator("order")
        self.views = {"forget": context.forget, "retain": context.retain}
        if method.schedule == "union":
            self.views["union"] = context.forget + context.retain

    def steps(self, epoch, count=False):
        """The steps of an epoch, each a list of batches (set, positions).

        count: only their number matters; the run's random order is not drawn from, nor a hook asked.
        """
        method = self.method
        sets = [on for on in ("forget", "retain") if any(t.on == on and t.when(epoch) for t in method.terms)]
        if method.schedule == "none":
            return []
        if method.schedule == "joint" and len(sets) == 2:
            return self._joint(count)
        if method.schedule not in ("joint", "alternate"):
            sets = [method.schedule.removesuffix("_only")]
        return [[batch] for on in sets for batch in self._of(on, count)]

    def seen(self, step):
        """Set → how many of its examples a step has."""
        seen = {"forget": 0, "retain": 0}
        for on, positions in step:
            forgotten = {"forget": len(positions), "retain": 0}.get(on)
            if forgotten is None:
                forgotten = int((positions < len(self.views["forget"])).sum())
            seen["forget"] += forgotten
            seen["retain"] += len(positions) - forgotten
        return seen

    def _joint(self, count):
        """A batch of each set, the shorter one's over and over."""
        forget, retain = self._of("forget", count), self._of("retain", count)
        if not forget or not retain:
            raise MubenchError(f"{self.method.name} pairs the two sets: neither may be empty")
        lengths = {
            "longer": max(len(forget), len(retain)),
            "shorter": min(len(forget), len(retain)),
            "forget": len(forget),
        }
        pairs = zip(cycle(forget), cycle(retain), strict=False)
        return [list(pair) for pair in islice(pairs, lengths[self.method.epoch_length])]

    def _chosen(self, chosen, forget):
        """What `select` gives as positions; raises where it is something else."""
        positions = torch.as_tensor(chosen)
        if not len(positions):
            return positions.long()
        if positions.is_floating_point() or positions.dtype == torch.bool or positions.ndim != 1:
            raise MubenchError(f"select() of {self.method.name} gives {positions.dtype}: it gives positions in D_f")
        if positions.min() < 0 or positions.max() >= forget:
            raise MubenchError(f"select() of {self.method.name} gives a position outside of 0 to {forget - 1}")
        return positions.long()

    def _of(self, on, count):
        """The batches of a set, (set, positions) each."""
        n, forget = len(self.views[on]), len(self.views["forget"])
        chosen = self.method.select(self.context) if on in ("forget", "union") and not count else None
        order = torch.arange(n)
        if chosen is not None:
            order = torch.cat([self._chosen(chosen, forget), order[forget:]])
        if self.shuffle and not count:
            order = order[torch.randperm(len(order), generator=self.order)]
        size = self.context.forget_batch_size if on == "forget" else self.context.batch_size
        batches = [positions for positions in order.split(size) if len(positions)]
        if len(batches) > 1 and len(batches[-1]) == 1 < len(batches[0]):  # batch norm has no statistics of one example
            batches[-2:] = [torch.cat(batches[-2:])]
        return [(on, positions) for positions in batches]
