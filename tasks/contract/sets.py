"""The sets of a task as a model takes them: prepared once and cached, or decoded batch by batch."""

import functools

from mubench.cache import cache_dir, cached_tensors, content_key
from mubench.splits import rank
from mubench.tasks.contract.caching import cached_method


class Sets:
    """The part of a task that prepares its rows for a model."""

    def prepared(self, model, name):
        """A whole set (``train``, ``test``, …) for a model, as `Examples`, or as `Decoded` where the task is ``lazy``.

        `Examples` are computed once and then read from the cache.
        """
        from mubench.examples import Decoded, Examples

        finish = {"collate": functools.partial(self.collate, model=model), "resident": self.resident}
        if self.lazy:
            return Decoded(self.data[name], functools.partial(self.prepare, model=model), **finish)
        columns = self._columns(model, name)
        return Examples(columns, **finish, lengths=self.lengths(columns))

    def decode(self, rows, model):
        """Some rows of `read` as a batch for a model."""
        return self.collate(self.prepare(rows, model), model)

    @cached_method
    def _columns(self, model, name):
        """The columns of `prepare` for a whole set, from the cache where they are there."""
        key = content_key(self.origin(name), self.preparation(model))
        path = cache_dir() / "prepared" / f"{self.name}-{name}-{key}.safetensors"
        return cached_tensors(path, lambda: self.prepare(self.data[name], model))

    def sets(self, model, split=None, limit=None):
        """The sets of a run: name → view.

        model: the model's name.
        split: the deletion `Split`; it must be of these rows. None: nothing is forgotten, as for the original.
        limit: take the first so many rows of each set.

        Returns train, validation, test and, where there are such, forget, retain, transfer and the ``scored_sets``.
        D_f is seen with D's `world`, as the original knew it, all others with the one they are evaluated in.
        """
        if split is not None:
            split.verify(self.data_checksum, self.sizes["train"])
        before, after = self._worlds(() if split is None else split.forget)
        train, test = self.prepared(model, "train"), self.prepared(model, "test")
        validation_rows, test_rows = self.held_out
        validation = self.prepared(model, "validation") if "validation" in self.sizes else test
        sets = {"train": train.within(before)}
        if split is not None:
            sets["forget"] = train.select(list(split.forget)).within(before)
        if split is not None and "retain" in self.provides:
            sets["retain"] = train.select(list(split.retain)).within(after)
        others = {"validation": validation.select(validation_rows), "test": test.select(test_rows)}
        others |= {name: self.prepared(model, name) for name in ("transfer", *self.scored_sets) if name in self.sizes}
        evaluated = before if self.evaluated_on == "all" else after
        sets |= {name: view.within(evaluated) for name, view in others.items()}
        return {name: view.select(slice(limit)) for name, view in sets.items()} if limit else sets

    def _worlds(self, forget):
        """The `World` of all training rows, and that without those to be forgotten."""
        from mubench.examples import NOTHING, World

        if not self.world:
            return NOTHING, NOTHING
        every, gone = range(self.sizes["train"]), set(forget)
        before = World(self.world(every))
        if not before:
            return NOTHING, NOTHING
        return before, World(self.world([row for row in every if row not in gone])) if gone else before

    def scored(self, sets):
        """The rows of each set that are scored: all, or the first ``measured`` of them.

        They are ranked by SHA-256(``"{task}/scored/{row}"``).
        """
        chosen = {}
        for name, view in sets.items():
            most = self.measured.get(name, len(view))
            order = rank([f"{self.name}/scored/{row}" for row in view.rows.tolist()]) if most < len(view) else []
            chosen[name] = view.select(sorted(order[:most])) if order else view
        return chosen

    def example(self, model, n):
        """The first ``n`` training rows as a batch, unverified: what the memory of a step is estimated from."""
        rows = self.read()["train"]
        batch, (world, _) = self.decode(rows.select(range(min(n, len(rows)))), model), self._worlds(())
        return batch | {"world": world} if world else batch
