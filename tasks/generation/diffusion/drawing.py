"""Drawing, and what is measured of the pictures that are drawn."""

import functools

from mubench.tasks.generation.diffusion.contact_sheet import contact_sheet
from mubench.tasks.generation.diffusion.denoising import generator
from mubench.tasks.generation.diffusion.frozen import fastest_device


class Drawing:
    """The part of a task of pictures that draws them and scores what was drawn."""

    def draw(self, model, batch):
        """One picture for each prompt, [B, C, H, W] in [0, 1].

        It is drawn by DDIM with classifier-free guidance, from noise that depends on the example alone.
        """
        import torch
        from diffusers import DDIMScheduler

        from mubench.examples import sent

        latents = batch["latents"]
        shape, numbers = latents.shape[1:], batch["index"].tolist()
        drawing = torch.stack([torch.randn(shape, generator=generator("picture", number)) for number in numbers])
        drawing, texts = sent(drawing, latents.device), self.texts(latents.device)
        conditions = torch.cat([texts[:1].expand(len(latents), -1, -1), texts[batch["prompt"]]])
        scheduler = DDIMScheduler(**self.noise)
        scheduler.set_timesteps(self.steps)
        times = scheduler.timesteps
        for time, number in zip(
            sent(times, latents.device), times.tolist(), strict=True
        ):  # the scheduler's own: no wait
            noise = model(torch.cat([drawing, drawing]), time, encoder_hidden_states=conditions).sample.float()
            free, asked = noise.chunk(2)
            drawing = scheduler.step(free + self.guidance * (asked - free), number, drawing).prev_sample
        return self._decoded(drawing)

    def exhibits(self, before, after, sets, most=20):
        """``pictures.png``: of some prompts of the forget set, the real picture, the original's and the unlearned's."""
        import torch

        batch = sets["forget"][torch.arange(min(most, len(sets["forget"])))]
        rows = {"real": self._decoded(batch["latents"])}
        for name, model in (("original", before()), ("unlearned", after)):
            device, training = next(model.parameters()).device, model.training
            with torch.no_grad():
                rows[name] = self.draw(model.eval(), {k: v.to(device) for k, v in batch.items()}).cpu()
            model.train(training)
        return {"pictures.png": contact_sheet(rows, [self.prompts[number] for number in batch["prompt"]])}

    @property
    def random_guess(self):
        """Measured on the data, `guess`, where a card does not state it; None until they are read."""
        return self.guess if "data" in vars(self) else None

    @functools.cached_property
    def guess(self):
        """The CLIP score of the test prompts with real pictures of other examples.

        It is exact: the mean over all pairs of those that are scored, validation rows among them. So scores who draws
        well and nothing of what is asked.
        """
        import torch
        from torch.nn.functional import normalize

        view = self.scored({"test": self.prepared(self.model(), "test")})["test"]
        with torch.no_grad():
            chunks = (view[chunk]["latents"].to(fastest_device()) for chunk in torch.arange(len(view)).split(64))
            seen = torch.cat([self.embedded(self._decoded(latents)).cpu() for latents in chunks])
        asked = self.embedded_prompts("cpu")[view[torch.arange(len(view))]["prompt"]]
        pairs = (normalize(asked.double(), dim=-1) @ normalize(seen.double(), dim=-1).T).clamp(min=0)
        return ((pairs.sum() - pairs.diag().sum()) / (len(pairs) * (len(pairs) - 1))).item()

    def predict(self, model, batch):
        """Column → one value per example.

        target: the label that is asked for.
        prediction: what the classifier sees in the one picture drawn.
        score: its CLIP score.
        loss: the error of the predicted noise.
        confidence: exp(-loss), the one confidence that depends on the real picture.
        """
        import torch

        from mubench.measure.metrics.primary import load_primary

        with torch.no_grad():
            out, pictures = self.forward(model, batch), self.draw(model, batch)
            seen, asked = self.embedded(pictures), self.embedded_prompts(pictures.device)[batch["prompt"]]
        arrays = (embedded.cpu().double().numpy() for embedded in (seen, asked))
        score = torch.from_numpy(load_primary(self.metric).per_example(*arrays))
        return {
            "target": self.targets(batch),
            "prediction": self.classified(pictures),
            "score": score,
            "loss": out.loss,
            "confidence": (-out.loss).exp(),
        }
