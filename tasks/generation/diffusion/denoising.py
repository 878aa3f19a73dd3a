"""Noise: what is added to pictures, in training and in evaluation, and what a model predicts of it."""

import functools
import hashlib

from mubench.tasks.generation._others import others


def generator(seed, index):
    """A generator of random numbers that depends on a seed and on an example alone."""
    import torch

    digest = hashlib.sha256(f"{seed}/{index}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


class Denoising:
    """The part of a task of pictures that says how a model is run."""

    @functools.cached_property
    def _scheduler(self):
        from diffusers import DDIMScheduler

        return DDIMScheduler(**self.noise)

    def drawn(self, batch, seed):
        """With ``noise`` [B, 1, …] and ``timesteps`` [B, 1], and some prompts dropped."""
        import torch

        from mubench.examples import sent

        draws = [generator(seed, index) for index in batch["index"].tolist()]
        shape, levels = batch["latents"].shape[1:], self._scheduler.config.num_train_timesteps
        kept = torch.tensor([float(torch.rand((), generator=g)) >= self.dropped for g in draws])
        times = torch.stack([torch.randint(levels, (1,), generator=g) for g in draws])
        noise = torch.stack([torch.randn(1, *shape, generator=g) for g in draws])
        kept, times, noise = (sent(values, batch["latents"].device) for values in (kept, times, noise))
        return batch | {"prompt": batch["prompt"] * kept, "timesteps": times, "noise": noise}

    def evaluated(self, batch):
        """The batch with the noise of evaluation: the same for every model, at each of ``levels``."""
        import torch

        from mubench.examples import sent

        latents, most = batch["latents"], self._scheduler.config.num_train_timesteps
        shape = len(self.levels), *latents.shape[1:]
        noise = torch.stack(
            [torch.randn(shape, generator=generator("evaluation", index)) for index in batch["index"].tolist()]
        )
        times = torch.tensor([round(level * most) for level in self.levels]).expand(len(latents), -1)
        return batch | {"noise": sent(noise, latents.device), "timesteps": sent(times, latents.device)}

    def forward(self, model, batch, features=False):
        from mubench.models.behaviour import Output, Representation

        batch = batch if "noise" in batch else self.evaluated(batch)
        noise, times = batch["noise"], batch["timesteps"]
        count, levels = times.shape
        pictures = batch["latents"].repeat_interleave(levels, 0)
        noisy = self._scheduler.add_noise(pictures, noise.flatten(0, 1), times.flatten())
        texts = self.texts(noise.device)[batch["prompt"]].repeat_interleave(levels, 0)
        with Representation(model, "mid_block" if features else None, leaving=True) as representation:
            predicted = model(noisy, times.flatten(), encoder_hidden_states=texts).sample.float()
        predicted = predicted.unflatten(0, (count, levels))
        states = representation.value
        if states is not None:
            states = states.float().mean((2, 3)).unflatten(0, (count, levels)).mean(1)
        return Output((predicted - noise).square().flatten(1).mean(1), predicted, None, states)

    def divergence(self, student, teacher, temperature=1.0, per="example"):
        """[B]: mean squared difference of the predicted noise, divided by T²."""
        return ((student.logits - teacher.logits) / temperature).square().flatten(1).mean(1)

    def corrupt(self, batch, rows, draw, pool, other=True):
        """Prompts with the pictures of other examples, drawn from ``pool``.

        other: of examples that show something else.
        """
        from mubench.examples import sent

        true, labels = batch["latents"], batch["labels"]

        def same(drawn, rows):
            rows, pictures, shown = (sent(v, true.device) for v in (rows, drawn["latents"], drawn["labels"]))
            return (shown == labels[rows]) | (pictures == true[rows]).flatten(1).all(1)

        drawn, latents = others(self, batch, rows, draw, pool, same if other else None), true.clone()
        latents[sent(rows, true.device)] = sent(drawn["latents"], true.device)
        return batch | {"latents": latents}
