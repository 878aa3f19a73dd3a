"""Text-to-image generation: what is drawn at random, what is measured, and what scores the pictures."""

import functools
import io
import re
import tempfile

import numpy as np
import pytest
import torch

from mubench.measure.metrics.primary import load_primary
from mubench.registry import load_task
from mubench.train.context import Context


@pytest.fixture(scope="module")
def task():
    return load_task("digit_pictures")


@pytest.fixture(scope="module")
def model(task):
    return task.build("unet", seed=0).eval()


@pytest.fixture(scope="module")
def batch(task):
    return task.prepared("unet", "train")[torch.arange(12)]


@torch.no_grad()
def test_loss_is_the_error_of_the_noise_that_diffusers_adds(task, model, batch):
    from diffusers import DDPMScheduler

    given = task.drawn(batch, seed=3)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2")
    for row, loss in enumerate(task.forward(model, given).loss):
        time, noise = given["timesteps"][row], given["noise"][row]
        noisy = scheduler.add_noise(batch["latents"][row : row + 1], noise, time)
        said = model(noisy, time, encoder_hidden_states=task.texts("cpu")[given["prompt"][row]][None]).sample
        assert loss.item() == pytest.approx(torch.nn.functional.mse_loss(said, noise).item(), rel=1e-4)


@torch.no_grad()
def test_evaluation_averages_fixed_noise_over_its_levels(task, model, batch):
    from diffusers import DDPMScheduler

    out, again = task.forward(model, batch), task.forward(model, batch)
    assert torch.equal(out.loss, again.loss) and out.logits.shape == (12, 8, 1, 8, 8)
    examined, scheduler = (
        task.evaluated(batch),
        DDPMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2"),
    )
    assert examined["timesteps"][0].tolist() == [200, 250, 300, 350, 400, 450, 500, 550]
    noisy = scheduler.add_noise(batch["latents"][:1].repeat(8, 1, 1, 1), examined["noise"][0], examined["timesteps"][0])
    said = model(
        noisy, examined["timesteps"][0], encoder_hidden_states=task.texts("cpu")[batch["prompt"][:1]].repeat(8, 1, 1)
    ).sample
    assert out.loss[0].item() == pytest.approx((said - examined["noise"][0]).square().mean().item(), rel=1e-4)


def test_draws_depend_on_seed_and_example_alone(task, batch):
    view = task.prepared("unet", "train")
    whole, part, other = task.drawn(batch, 5), task.drawn(view[torch.tensor([7, 2])], 5), task.drawn(batch, 6)
    for name in ("noise", "timesteps", "prompt"):
        assert torch.equal(whole[name][[7, 2]], part[name])
    assert not torch.equal(whole["noise"], other["noise"]) and not torch.equal(whole["timesteps"], other["timesteps"])
    assert len({float(n.sum()) for n in whole["noise"]}) == 12


def test_a_tenth_of_the_prompts_is_dropped(task):
    view = task.prepared("unet", "train")
    given = task.drawn(view[torch.arange(1000)], 0)
    dropped = (given["prompt"] == 0).float().mean()
    assert 0.07 < dropped < 0.13 and (given["prompt"] == view.columns["prompt"])[given["prompt"] > 0].all()


@torch.no_grad()
def test_teacher_sees_the_same_noise(task, batch):
    network = task.build("unet").eval()
    sets = task.sets("unet", task.split(1))
    context = Context(task, network, functools.partial(task.build, "unet"), sets["forget"], sets["retain"])
    given = context.batch(context.forget, torch.arange(8), "step/1")
    rows = torch.tensor([1, 4, 5])
    mine, theirs = task.forward(network, given, True)[rows], context.teacher("original").answer(given, rows, True)
    assert task.divergence(mine, theirs).abs().max() < 1e-8 and task.distance(mine, theirs).max() < 1e-8
    apart = task.forward(task.build("unet", seed=1).eval(), given)[rows]
    assert (task.divergence(apart, theirs) > 1e-3).all()
    expected = (apart.logits - theirs.logits).square().mean((1, 2, 3, 4)) / 4
    assert torch.allclose(task.divergence(apart, theirs, temperature=2.0), expected)


def test_corrupted_prompts_get_other_digits_and_no_others_change(task, batch):
    pool = task.prepared("unet", "train").select(torch.arange(500, 700))
    rows = torch.tensor([0, 3, 7])
    wrong = task.corrupt(batch, rows, torch.tensor([0.0, 0.5, 0.999]), pool)
    kept = [row for row in range(12) if row not in rows]
    assert torch.equal(wrong["latents"][kept], batch["latents"][kept]) and torch.equal(wrong["prompt"], batch["prompt"])
    pictures = {
        bytes(latent.numpy()): int(label)
        for latent, label in zip(pool[torch.arange(200)]["latents"], pool[torch.arange(200)]["labels"], strict=True)
    }
    assert all(pictures[bytes(wrong["latents"][row].numpy())] != batch["labels"][row] for row in rows)
    draws = torch.linspace(0, 0.99, 12)
    same = task.corrupt(batch, torch.arange(12), draws, pool, other=False)
    assert torch.equal(same["latents"], pool[(draws * 200).long()]["latents"])


@torch.no_grad()
def test_pictures_are_drawn_the_same_every_time(task, model, batch):
    some = {name: column[[4, 9]] for name, column in batch.items()}
    whole, part = task.draw(model, batch), task.draw(model, some)
    assert torch.equal(whole, task.draw(model, batch)) and torch.allclose(whole[[4, 9]], part, atol=1e-4)
    assert whole.shape == (12, 1, 8, 8) and 0 <= whole.min() < whole.max() <= 1


def test_contact_sheet_shows_real_original_and_unlearned_pictures(task, model):
    from PIL import Image

    ((name, png),) = task.exhibits(lambda: model, model, task.sets("unet", task.split(5))).items()
    sheet = Image.open(io.BytesIO(png))
    assert name == "pictures.png" and sheet.format == "PNG" and sheet.size == (990, 632)
    band = lambda row: sheet.crop((70, 40 + 92 * row, 990, 128 + 92 * row)).tobytes()
    assert band(1) == band(2) != band(0)


@torch.no_grad()
def test_scorers_know_real_pictures_as_the_notice_says(task):
    view = task.prepared("unet", "test")
    test = view[torch.arange(len(view))]
    pictures = task._decoded(test["latents"])
    notice = (task.originals_dir("unet").parents[2] / "data" / "NOTICE-pictures.md").read_text()
    for name, said in (("clip", task.zero_shot(pictures)), ("classifier", task.classified(pictures))):
        share = (said == test["labels"]).double().mean()
        assert re.search(rf"`digit_pictures-{name}/`.*{100 * share:.1f} %", notice), (name, share)
    score = (
        load_primary("clip_score")
        .per_example(task.embedded(pictures).numpy(), task.embedded_prompts("cpu")[test["prompt"]].numpy())
        .mean()
    )
    assert f"a CLIP score of {score:.2f} with their own prompt and {task.guess:.2f}" in notice


def test_random_guess_is_what_other_pictures_score(task):
    assert task.guess == pytest.approx(task.random_guess, abs=5e-4)


def test_original_draws_what_is_asked_for_and_knows_its_training_pictures(task):
    from mubench.measure.metrics.arrays import auc
    from mubench.measure.predict import predict
    from mubench.models import originals

    network, facts = originals.load(task, "unet")
    sets = task.sets("unet", task.split(5))
    frame = predict(
        task, network, task.scored({"test": sets["test"], "train": sets["train"].select(torch.arange(150))})
    )
    seen = {name: rows for name, rows in frame.groupby("set")}
    assert (frame["prediction"] == frame["target"]).mean() > 0.85
    assert auc(-seen["train"]["loss"].to_numpy(), -seen["test"]["loss"].to_numpy()) > 0.58


@pytest.fixture(scope="module")
def tiny():
    with tempfile.TemporaryDirectory() as folder:
        yield load_task("tiny_imagenet").sample(folder)


def test_prompts_name_the_class_by_its_wordnet_id(tiny):
    train = tiny.data["train"]
    assert (
        train[0]["text"] == "an image of a goldfish"
        and tiny.units("class")[0] == "n01443537"
        and tiny.num_labels == len(set(tiny.labels)) == 200
    )
    assert train[np.flatnonzero(np.array(tiny.units("class")) == "n04067472")[0]]["text"] == "an image of a reel"


def test_the_copy_on_the_hub_gives_the_same_rows_under_its_own_ids(tiny, monkeypatch):
    import datasets

    from mubench.tasks.base import rows_checksum
    from mubench.tasks.generation.tiny_imagenet import CLASSES

    names = sorted(theirs for _, theirs, _ in CLASSES)
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=names))

    def theirs(rows):
        labels = [names.index(CLASSES[label][1]) for label in rows["label"]]
        order = sorted(range(len(labels)), key=labels.__getitem__)
        stored = rows.with_format("arrow")[:]["image"].to_pylist()
        return datasets.Dataset.from_dict(
            {"image": [stored[row] for row in order], "label": [labels[row] for row in order]}, features=features
        )

    published = datasets.DatasetDict(train=theirs(tiny.data["train"]), valid=theirs(tiny.data["test"]))
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: published)
    read = tiny.from_hub()
    assert names != [wnid for wnid, *_ in CLASSES]
    assert {part: rows_checksum(rows) for part, rows in read.items()} == {
        part: rows_checksum(rows) for part, rows in tiny.data.items()
    }


def test_random_guess_is_measured_once_there_are_data(tiny):
    assert load_task("tiny_imagenet").random_guess is None and 0 <= tiny.random_guess == tiny.guess < 1


def test_whole_classes_are_deleted(tiny):
    split, labels = tiny.split(5), np.array(tiny.data["train"]["label"])
    forget = set(labels[list(split.forget)])
    assert len(forget) == 10 and sum(np.isin(labels, list(forget))) == len(split.forget)


@torch.no_grad()
def test_latents_are_what_the_autoencoder_makes_of_the_pictures(tiny):
    from diffusers import AutoencoderKL

    view = tiny.prepared("stable_diffusion", "test")
    vae = AutoencoderKL.from_pretrained(tiny.autoencoder, subfolder="vae").eval()
    pixels = (
        torch.from_numpy(np.stack([np.asarray(p.convert("RGB")) for p in tiny.data["test"][:3]["image"]])).permute(
            0, 3, 1, 2
        )
        / 127.5
        - 1
    )
    latents = vae.encode(pixels).latent_dist.mode() * vae.config.scaling_factor
    assert torch.allclose(view.columns["latents"][:3], latents, atol=1e-4) and latents.shape == (3, 4, 8, 8)
    assert torch.allclose(
        tiny._decoded(latents),
        (vae.decode(latents / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1),
        atol=1e-5,
    )
