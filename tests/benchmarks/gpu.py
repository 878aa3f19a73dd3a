"""How fast training is on one GPU: three models of the paper's size with random weights, in at most 8 minutes.

    python tests/benchmarks/gpu.py [--out FOLDER] [--minutes 8]
    python tests/benchmarks/gpu.py --device cpu --small      # tries the script itself

It writes gpu.md and gpu.json after each part:

    input        pictures a second of 224×224 that are ready to be trained on: rows as bytes on the device, in main
                 memory, made ready on the CPU, and files that are decoded when asked
    waits        how often a step of the engine makes the host wait for the GPU, and where
    steps        milliseconds of a step: the engine beside a bare loop, then beside one of a compiled model: they
                 alternate; medians and ranges; the peak of allocated memory

The bare loops train on one batch, which lies ready on the device, without clipping; the engine has its rows there too,
and they are in its peak. A part for which the time left is too short is left out or ended, and named. Nothing is
judged: the exit code is 0.
"""

import argparse
import functools
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import synchronisations
from mubench.examples import Columns, Decoded, Examples
from mubench.models.behaviour import Behaviour, Output
from mubench.registry import load_method
from mubench.spec import Budget
from mubench.tasks.base import Model
from mubench.tasks.image import ImageClassification
from mubench.train.context import Context
from mubench.train.distributed import make_accelerator
from mubench.train.engine import Engine
from mubench.train.loader import batches
from mubench.train.recipe import Recipe

SIDE = 224
HALF = dict(mean=[0.5] * 3, std=[0.5] * 3, size=SIDE)


class Pictures(ImageClassification):
    labels = tuple(map(str, range(100)))
    models = {"vit": Model("ViTForImageClassification", inputs=HALF)}


class Noise(Behaviour):
    """The squared error of the noise that a model of latents predicts."""

    def forward(self, model, batch, features=False):
        noise, times, texts = batch["noise"], batch["timesteps"], batch["texts"]
        predicted = model(batch["latents"] + noise, times, encoder_hidden_states=texts).sample.float()
        return Output((predicted - noise).square().flatten(1).mean(1))


@dataclass
class Case:
    """A model to be timed.

    task, make: its behaviour and () → the model.
    columns, finish: of its examples; the options of `Examples`.
    size: of a batch.
    seconds, compiling: that its steps may take, and compiling it.
    """

    task: Behaviour
    make: object
    columns: dict
    finish: dict
    size: int
    seconds: int
    compiling: int


def cases(small):
    """Name → `Case`."""
    import transformers
    from diffusers import UNet2DConditionModel

    tiny = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64) if small else {}
    levels = {}
    if small:
        levels = dict(block_out_channels=(8, 8), norm_num_groups=4, attention_head_dim=4, layers_per_block=1)
        levels |= dict(down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"))
        levels |= dict(up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"))
    n, vit, bert, unet = (16, 4, 4, 2) if small else (1024, 64, 32, 8)
    length, side, width = (16, 8, 16) if small else (256, 64, 768)
    behaviour, pictures, random = Behaviour(), Pictures(), torch.Generator().manual_seed(0)
    integers = functools.partial(torch.randint, generator=random)
    finish = {"collate": functools.partial(pictures.collate, model="vit"), "resident": pictures.resident}
    latents = {name: torch.randn(n, 4, side, side, generator=random) for name in ("latents", "noise")}
    latents["texts"] = torch.randn(n, 77, width, generator=random)
    return {
        "ViT-B/16": Case(
            pictures,
            lambda: transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=100, **tiny)),
            {"pixels": integers(256, (n, 3, SIDE, SIDE), dtype=torch.uint8), "labels": integers(100, (n,))},
            finish,
            vit,
            30,
            60,
        ),
        "BERT-base": Case(
            behaviour,
            lambda: transformers.BertForSequenceClassification(transformers.BertConfig(num_labels=2, **tiny)),
            {
                "input_ids": integers(30_000, (n, length)),
                "attention_mask": (torch.arange(length) < integers(8, length, (n, 1))).long(),
                "labels": integers(2, (n,)),
            },
            {},
            bert,
            30,
            60,
        ),
        "UNet of SD 1.4": Case(
            Noise(),
            lambda: UNet2DConditionModel(sample_size=side, cross_attention_dim=width, **levels),
            latents | {"timesteps": integers(1000, (n,))},
            {"resident": (*latents, "timesteps")},
            unet,
            60,
            120,
        ),
    }


class Bench:
    """What is measured, and how much time is left.

    device: where.
    small: whether the script alone is tried.
    out: the folder of the table.
    seconds: for all.
    """

    def __init__(self, device, small, out, seconds):
        self.device, self.small, self.out, self.end = device, small, Path(out), time.monotonic() + seconds
        self.rows, self.left_out = [], []
        signal.signal(signal.SIGALRM, _late)
        self.warm, self.steps, self.rounds = (1, 1, 1) if small else (3, 10, 3)

    def part(self, name, seconds, measure):
        """Measures a part and writes the table, where so many seconds are left."""
        left, start = self.end - time.monotonic(), time.monotonic()
        if left < (0 if self.small else seconds):
            self.left_out.append(name)
        else:
            signal.setitimer(signal.ITIMER_REAL, left)
            try:
                self.rows += [{"part": name} | row for row in measure()]
            except Exception as error:  # the other parts are worth the machine's time
                self.left_out.append(f"{name} ({type(error).__name__}: {str(error)[:120].strip()})")
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        self.write()

    def write(self):
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        facts = {"device": name, "torch": torch.__version__, "small": self.small, "left_out": self.left_out}
        (self.out / "gpu.json").write_text(json.dumps(facts | {"rows": self.rows}, indent=1))
        lines = [f"# {name}, PyTorch {torch.__version__}" + (", a trial of the script" * self.small), ""]
        lines += [
            "| part | what | middle | from | to | unit | peak GiB |",
            "| --- | --- | --- | --- | --- | --- | --- |",
        ]
        for row in self.rows:
            numbers = [f"{row[key]:.4g}" if row[key] is not None else "–" for key in ("middle", "low", "high")]
            peak = "–" if row.get("peak") is None else f"{row['peak'] / 2**30:.3g}"
            lines.append(f"| {row['part']} | {row['what']} | {' | '.join(numbers)} | {row['unit']} | {peak} |")
        lines += ["", f"Left out: {'; '.join(self.left_out) or 'nothing'}."]
        (self.out / "gpu.md").write_text("\n".join(lines) + "\n")

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def alternating(self, ways, unit="ms a step"):
        """A row for each way, name → () → a number: they alternate, so that all see the same machine."""
        found, peaks = {name: [] for name in ways}, {}
        for turn in range(self.rounds):
            for name in [*ways][:: 1 if turn % 2 else -1]:
                if self.device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(self.device)
                found[name].append(ways[name]())
                if self.device.type == "cuda":
                    peaks[name] = torch.cuda.max_memory_allocated(self.device)
        for name, numbers in found.items():
            middle = statistics.median(numbers)
            row = {"what": name, "middle": middle, "low": min(numbers), "high": max(numbers), "unit": unit}
            yield row | {"peak": peaks.get(name)}

    # -- input -------------------------------------------------------------------------------------------------------

    def input(self, case):
        """Pictures a second."""
        view = Examples(case.columns, **case.finish)
        apart = Examples(NotHeld(case.columns), **case.finish)
        with tempfile.TemporaryDirectory() as folder:
            files = self.files(folder, case)
            ways = {
                "bytes on the device": lambda: self.rate(view, case.size),
                "bytes in main memory": lambda: self.rate(apart, case.size),
                "made ready on the CPU": lambda: self.rate_of_cpu(view, case.size),
                "JPEG files, decoded": lambda: self.rate(files, case.size),
            }
            yield from self.alternating(ways, "pictures a second")

    def files(self, folder, case):
        """JPEG files of somewhat larger pictures, as a lazy task has them."""
        import datasets
        from PIL import Image

        paths, task = [], case.task
        for number, pixels in enumerate(case.columns["pixels"][: 512 if not self.small else 8]):
            picture = Image.fromarray(pixels.permute(1, 2, 0).numpy()).resize((256, 256))
            paths.append(f"{folder}/{number}.jpg")
            picture.save(paths[-1])
        rows = datasets.Dataset.from_dict({"image": paths, "label": [0] * len(paths)})
        rows = rows.cast_column("image", datasets.Image())
        return Decoded(rows, functools.partial(task.prepare, model="vit"), **case.finish)

    def asked(self, view, size):
        return [(None, positions) for positions in torch.randperm(len(view)).split(size)]

    def rate(self, view, size):
        asked = self.asked(view, size)
        self.wait()
        start = time.perf_counter()
        for _ in batches({None: view}, asked, self.device):
            pass
        self.wait()
        return len(view) / (time.perf_counter() - start)

    def rate_of_cpu(self, view, size):
        asked = self.asked(view, size)
        self.wait()
        start = time.perf_counter()
        for _, positions in asked:
            {name: values.to(self.device) for name, values in view[positions].items()}
        self.wait()
        return len(view) / (time.perf_counter() - start)

    # -- steps -------------------------------------------------------------------------------------------------------

    def waits(self, case):
        """How often the host waits in a step, and where."""
        device = synchronisations.DEVICE
        with synchronisations.of_steps() as found:
            self.engine(case, "no", steps=6, device=device)
        counts = [len(step) for step in found[2:]]
        places = "; ".join(sorted({place for step in found[2:] for place in step})).replace("|", "/")
        row = {"middle": statistics.median(counts), "low": min(counts), "high": max(counts), "unit": "waits a step"}
        yield {"what": places or "nowhere"} | row

    def engine(self, case, precision, steps, device=None):
        """So many steps of `finetune`."""
        accelerator, method = make_accelerator(precision), load_method("finetune", lr=1e-5, batch_size=case.size)
        if device and device != accelerator.device:
            accelerator = type("OnDevice", (type(accelerator),), {"device": device})(cpu=True)
        view, model = Examples(case.columns, **case.finish), self.made(case, device)
        context = Context(case.task, model, None, view.select(slice(0)), view, accelerator=accelerator)
        recipe = method.recipe(Recipe(lr=1e-5, epochs=100, batch_size=case.size))
        Engine(method, context, recipe, Budget(steps=steps), progress=False).run()

    def made(self, case, device=None):
        """The model, its weights drawn where it is."""
        with torch.device(device or self.device):
            return case.make()

    def timed_engine(self, case, precision):
        """Milliseconds of a step of the engine, the first ones left out."""
        times = []

        def done(*_):
            if len(times) == self.warm or len(times) == self.warm + self.steps:
                self.wait()
            times.append(time.perf_counter())

        handle = synchronisations.register_optimizer_step_post_hook(done)
        try:
            self.engine(case, precision, self.warm + self.steps + 1)
        finally:
            handle.remove()
        return 1000 * (times[self.warm + self.steps] - times[self.warm]) / self.steps

    def bare(self, case, precision, compiled=False):
        """() → milliseconds of a step of a bare loop on one batch."""
        model = self.made(case).train()
        network = torch.compile(model, backend="eager" if self.small else "inductor") if compiled else model
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=self.device.type == "cuda")
        view = Examples(case.columns, **case.finish)
        batch = next(iter(batches({None: view}, self.asked(view, case.size), self.device)))

        def step():
            with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
                loss = case.task.forward(network, batch).loss.mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        def seconds(count):
            self.wait()
            start = time.perf_counter()
            for _ in range(count):
                step()
            self.wait()
            return time.perf_counter() - start

        return lambda: seconds(self.warm) * 0 + 1000 * seconds(self.steps) / self.steps

    def steps_of(self, case, precision, compiled=False):
        """The engine and a bare loop; a compiled model is kept, and is in the peak of both."""
        engine = lambda: self.timed_engine(case, precision)
        if not compiled:
            return self.alternating({"engine": engine, "bare loop": lambda: self.bare(case, precision)()})
        bare = self.bare(case, precision, compiled)
        bare()  # compiles
        return self.alternating({"engine": engine, "bare loop, compiled": bare})


def _late(*_):
    raise TimeoutError("the time was over")


class NotHeld(Columns):
    """Columns for which there is no room on the device."""

    def on(self, device, names):
        return {}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--out", default=os.environ.get("OUT", "."))
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here: nothing is measured")
    if given.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        torch.set_num_threads(1)
    bench, every = (
        Bench(torch.device(given.device), given.small, given.out, 60 * given.minutes - 20),
        cases(given.small),
    )
    bench.part("input", 40, lambda: bench.input(every["ViT-B/16"]))
    for name, case in every.items():
        bench.part(f"waits, {name}", 30, lambda case=case: bench.waits(case))
    for precision, compiled in (("no", False), ("bf16", False), ("no", True)):
        for name, case in every.items():
            label = f"{name}, {'float32' if precision == 'no' else precision}{', compiled' * compiled}"
            bench.part(
                label,
                case.seconds + compiled * case.compiling,
                lambda c=case, p=precision, k=compiled: bench.steps_of(c, p, k),
            )
    print((bench.out / "gpu.md").read_text())


if __name__ == "__main__":
    main()
