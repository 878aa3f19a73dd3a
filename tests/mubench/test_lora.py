"""LoRA: the share that was asked for, ranks that layers have, the original without a copy of it, and plain models
afterwards.
"""

import copy
import json
import warnings

import numpy as np
import pytest
import torch

from mubench import api
from mubench.errors import MubenchError
from mubench.measure.predict import predict
from mubench.methods.base import Method, Term
from mubench.models import networks, originals
from mubench.models.networks import weights_hash
from mubench.records.result import read
from mubench.registry import load_method, load_task
from mubench.tasks.contract.tiny import TINY
from mubench.train import lora
from mubench.train.context import Context
from mubench.train.engine import Engine
from mubench.train.recipe import Recipe

TOKENS = dict(vocab_size=40, bos_token_id=0, eos_token_id=2)
UNET = dict(
    sample_size=8,
    in_channels=4,
    out_channels=4,
    block_out_channels=(8, 16),
    layers_per_block=1,
    cross_attention_dim=16,
    norm_num_groups=4,
    attention_head_dim=4,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)
MORE = {
    "T5ForConditionalGeneration": dict(d_model=16, d_ff=32, num_layers=2, num_heads=2, d_kv=8, vocab_size=40),
    "GPT2LMHeadModel": dict(n_embd=16, n_layer=2, n_head=2, n_positions=32) | TOKENS,
    "UNet2DConditionModel": UNET,
}
CONFIGS = {
    name: options
    | (TOKENS if "vocab" not in str(options) and any(w in name for w in ("Sequence", "Llama", "Vilt")) else {})
    for name, (_, options) in TINY.items()
} | MORE
CONFIGS["ViltForImagesAndTextClassification"] |= {"num_images": 1}
MODELS = [
    n for n in CONFIGS if n not in ("ElectraForSequenceClassification", "RobertaForSequenceClassification")
]  # BERT's layers


def build(architecture):
    """A tiny model in eval mode, none of whose weights is 0."""
    cls, options = networks.model_class(architecture), CONFIGS[architecture]
    torch.manual_seed(0)
    model = cls(**options) if architecture.startswith("UNet") else networks.make(cls, options)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model.eval()


def inputs(model, architecture, n=2):
    """A batch for it."""
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(n, *shape, generator=generator)
    words = torch.randint(3, 40, (n, 7), generator=generator)
    side = getattr(model.config, "image_size", 40)
    kinds = {
        "UNet": lambda: dict(sample=draw(4, 8, 8), timestep=torch.arange(1, n + 1), encoder_hidden_states=draw(3, 16)),
        "VideoMAE": lambda: dict(pixel_values=draw(model.config.num_frames, 3, side, side)),
        "Vilt": lambda: dict(input_ids=words, pixel_values=draw(3, side, side)[:, None]),
        "Image": lambda: dict(pixel_values=draw(3, side, side)),
        "Wav2Vec2": lambda: dict(input_values=draw(4000)),
        "Hubert": lambda: dict(input_values=draw(4000)),
        "Whisper": lambda: dict(input_features=draw(8, 200)),
        "T5": lambda: dict(input_ids=words, decoder_input_ids=words),
        "": lambda: dict(input_ids=words),
    }
    return next(make for word, make in kinds.items() if word in architecture)()


def answer(model, batch):
    """What it gives, without gradient; ViLT draws the order of its patches."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(2)
        return model(**batch)[0]


@pytest.mark.parametrize("architecture", MODELS)
def test_any_architecture(architecture):
    model = build(architecture)
    batch, total = inputs(model, architecture), sum(p.numel() for p in model.parameters())
    before, flags, names = answer(model, batch), [p.requires_grad for p in model.parameters()], [*model.state_dict()]
    held, own = {id(p) for p in model.parameters()}, {n: own for n, (_, own, _) in lora.adaptable(model).items()}
    plan = lora.solve(model, 50, used=lora.used(model, lambda: model(**batch)))
    assert abs(plan.share - 50) <= 1 and all(1 <= r <= own[n] for n, r in plan.ranks.items())

    adapters = lora.Adapters(model, plan)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert 100 * sum(p.numel() for p in trained) / total == plan.share and type(model).__name__ == architecture
    assert {id(p) for p in model.parameters() if not p.requires_grad} == held  # one copy of the weights
    model.train()
    for _ in range(2):
        optimizer = torch.optim.SGD(trained, lr=0.05)
        model(**batch)[0].square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        for p in trained:
            p.add_(0.05 * torch.randn_like(p))
    assert not [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]  # every adapter is used
    with adapters.off():
        assert answer(model, batch).equal(before)
    assert model.training and all(p.requires_grad for p in trained)

    wrapped = answer(model.eval(), batch)
    adapters.merge()
    assert [*model.state_dict()] == names and [p.requires_grad for p in model.parameters()] == flags
    assert torch.allclose(
        answer(model, batch), wrapped, rtol=1e-4, atol=1e-4 * wrapped.abs().max()
    ) and not torch.allclose(wrapped, before)


def test_shares_that_cannot_be_had_are_refused_with_what_can():
    model = build("ConvNextForImageClassification")
    with pytest.raises(lora.Unreachable, match=r"LoRA of 90 %.*at most 85.16 % .* the nearest share is 85.16$"):
        lora.solve(model, 90)
    with pytest.raises(lora.Unreachable, match="nothing near the share"):
        lora.solve(model, 1e-3)
    full = lora.solve(model, rank=10**6)
    assert full.share == pytest.approx(85.16, abs=0.01) and full.ranks == {
        n: own for n, (_, own, _) in lora.adaptable(model).items()
    }


def test_the_share_is_never_passed_and_ranks_are_even():
    model = load_task("fashion").build("vit")
    for share in (2, 10, 37.5, 80):
        plan = lora.solve(model, share)
        uncapped = [r for n, r in plan.ranks.items() if r < lora.adaptable(model)[n][1]]
        assert share - 1 < plan.share <= share and max(uncapped) - min(uncapped) <= 2


def test_tied_and_unvisited_weights_carry_no_adapter():
    model = build("T5ForConditionalGeneration")
    assert not {"shared", "lm_head", "encoder.embed_tokens"} & {*lora.adaptable(model)}
    video = build("VideoMAEForVideoClassification")
    through = lora.used(video, lambda: video(**inputs(video, "VideoMAE")))
    assert set(lora.solve(video, rank=1, used=through).ranks) <= through
    assert "lm_head" not in lora.solve(build("LlamaForCausalLM"), rank=2).ranks  # spared, as the others suffice


# -- in a run
# ------------------------------------------------------------------------------------------------------------


def context(model="resnet", seed=0, n=32, **adapt):
    task = load_task("fashion")
    sets, network = task.sets(model, task.split(5)), originals.load(task, model)[0]
    fresh = lambda: task.build(model, blank=True)
    return Context(
        task,
        network,
        fresh,
        sets["forget"].select(slice(n)),
        sets["retain"].select(slice(2 * n)),
        seed,
        adapt=adapt or {"share": 50},
    )


RECIPE = Recipe(lr=0.01, epochs=1, batch_size=16)


@pytest.mark.parametrize("model", ["resnet", "vit"])
def test_the_original_is_the_student_without_its_adapters(model):
    c, task = context(model), load_task("fashion")
    before = {n: t.clone() for n, t in c.given.state_dict().items() if "lora_" not in n}
    with c.adapters.off() as network:
        said = predict(task, network, {"forget": c.forget})

    class Watch(Method):
        name, schedule, epochs = "watch", "joint", 2
        terms = (
            Term("forget", "logit", "original", weight=-1.0),
            Term("retain", "logit", "original"),
            Term("retain", "loss", "true"),
        )

        def finish(self, context):
            assert not {id(p) for p in context.trainable.values()} - {id(p) for p in context.student.parameters()}
            with context.adapters.off() as network:
                assert predict(task, network, {"forget": c.forget}).equals(said)
            after = {n: t for n, t in context.student.state_dict().items() if "lora_" not in n}
            assert all(after[n].equal(t) for n, t in before.items())  # batch norm statistics too

    method = Watch()
    Engine(method, c, RECIPE, progress=False).run()
    teacher = c.teacher("original").outputs(c.forget).logits
    assert torch.allclose(
        teacher, torch.tensor(np.stack(said["logits"])), rtol=2**-10, atol=1e-6
    )  # as predictions are stored
    assert not predict(task, c.student, {"forget": c.forget}).equals(said) and not any(
        "lora" in n for n, _ in c.student.named_modules()
    )


def test_masks_and_penalties_are_over_the_adapters():
    c = context("vit")
    salun = load_method("salun")
    salun.finish = lambda context: changed.extend(
        n for n, p in context.trainable.items() if not p.detach()[~context.masks[n]].equal(start[n][~context.masks[n]])
    )
    start, changed = {n: p.detach().clone() for n, p in c.trainable.items()}, []
    Engine(salun, c, RECIPE, progress=False).run()
    assert {*c.masks} == {*start} and not changed
    share = sum(m.sum() for m in c.masks.values()) / sum(m.numel() for m in c.masks.values())
    assert share == pytest.approx(0.5, abs=1e-4)

    def moved(l2_init):
        c, method = context("vit"), load_method("neggrad_plus", l2_init=l2_init)
        method.finish = lambda context: far.append(
            sum(
                (p - o).square().sum().item()
                for p, o in zip(context.student.parameters(), context.original.parameters(), strict=True)
            )
        )
        method.prepare = lambda context: context.original
        Engine(method, c, RECIPE, progress=False).run()

    far = []
    moved(0.0), moved(1e4)
    assert 0 < far[1] < far[0] / 2


@pytest.mark.parametrize(
    "architecture", ["ResNetForImageClassification", "GPT2LMHeadModel"]
)  # convolutions; embeddings, whose A is 0 at first
def test_a_task_vector_is_of_what_the_adapters_add(architecture, tmp_path):
    import peft

    model = build(architecture)
    theta = {n: t.clone() for n, t in model.state_dict().items()}
    c = Context(None, model, None, [], [])
    used = lora.used(model, lambda: model(**inputs(model, architecture)))
    c.note(adapters=lora.Adapters(model, lora.solve(model, 60, used=used)))

    def move():
        for p in c.trainable.values():
            p.data += 0.1 * torch.randn_like(p)

    def merged():
        twin = copy.deepcopy(c.adapters)
        twin.merge()
        return twin.model.state_dict()

    start = c.snapshot()
    move()
    first, ranks = merged(), dict(c.adapters.config.rank_pattern)
    c.rescale(-0.7, start)
    state = merged()
    assert all(
        torch.allclose(state[n], theta[n] - 0.7 * (first[n] - theta[n]), atol=1e-5)
        for n in theta
        if theta[n].is_floating_point()
    )
    assert c.adapters.config.rank_pattern == ranks and not all(state[n].equal(theta[n]) for n in theta)

    start, first = c.snapshot(), state  # and from a start that the adapters have already left
    move()
    second = merged()
    c.rescale(-0.3, start)
    c.adapters.merge()
    state = model.state_dict()
    assert all(
        torch.allclose(state[n], first[n] - 0.3 * (second[n] - first[n]), atol=1e-5)
        for n in theta
        if theta[n].is_floating_point()
    )
    c.adapters.save_pretrained(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        again = peft.PeftModel.from_pretrained(build(architecture), tmp_path).merge_and_unload().state_dict()
    assert all(torch.allclose(again[n], state[n], atol=1e-6) for n in theta)


@pytest.mark.parametrize("name", ["task_vector", "sga_tau"])
def test_task_arithmetic_runs_with_lora_and_harms_the_forget_set(name):
    more = {"threshold": -1.0} if name == "sga_tau" else {}
    c, method = context("vit"), load_method(name, **more, scale=2.0, lr=0.01)
    loss = lambda: (
        load_task("fashion").forward(c.student.eval(), c.batch(c.forget, torch.arange(32), "test")).loss.mean().item()
    )
    before = loss()
    Engine(method, c, method.recipe(RECIPE), progress=False).run()
    assert loss() > before


def test_adapters_depend_on_the_seed_alone():
    hashes = []
    for seed in (0, 0, 1):
        torch.rand(1)  # whatever else is drawn
        hashes.append(weights_hash(context("vit", seed=seed).student))
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_run_by_the_command_line(cli, tmp_path):
    words = [
        "run",
        "fashion",
        "bad_t,scrub,salun,retrain",
        "--limit",
        40,
        "--lora",
        50,
        "--curriculum",
        "superloss",
        "--optimizer",
        "sophia",
        "--set",
        "epochs=1",
        "--out",
        tmp_path,
    ]
    done = cli(*words, "--save-model")
    assert done.code == 0 and "3 done, 0 there before, 0 failed" in done.out, done.err
    assert "left out: retrain starts from a new model, LoRA adapts a trained one: run it without" in done.out
    for path in tmp_path.glob("fashion/resnet/*/5/*/result.json"):
        record, task = read(path), load_task("fashion")
        network = networks.read(task.model_class("resnet"), path.parent / "model")[0]
        assert weights_hash(network) == record.weights and record.model["parameters"] == 78394
        assert abs(record.model["lora"]["share"] - 50) <= 1 and max(record.model["lora"]["ranks"].values()) < 64
        assert record.spec["lora"] == 50 and record.method["recipe"]["optimizer"] == "sophia"
        assert record.command.endswith("--lora 50.0 --curriculum superloss --max-examples 400 --limit 40")
    assert "3 there before" in cli(*words).out


def test_the_adapter_alone_is_saved_for_peft(cli, tmp_path):
    import peft

    words = ["run", "fashion", "finetune", "--model", "vit", "--limit", 40, "--set", "lr=0.01", "--out", tmp_path]
    assert "there is no adapter to save without LoRA" in cli(*words, "--save-model", "adapter").err
    done = cli(*words, "--lora-rank", 2, "--save-model", "adapter")
    assert done.code == 0, done.err
    (path,) = tmp_path.glob("fashion/vit/finetune/5/*/result.json")
    original = originals.load(load_task("fashion"), "vit")[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged = peft.PeftModel.from_pretrained(original, path.parent / "model").merge_and_unload()
    assert weights_hash(merged) == read(path).weights
    assert set(json.loads(path.read_text())["model"]["lora"]["ranks"].values()) == {2}


def test_a_model_of_ones_own():
    rows = [{"x": torch.tensor([float(i % 7), float(i % 3), 1.0]), "labels": i % 3} for i in range(24)]

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = torch.nn.Linear(3, 40), torch.nn.Linear(40, 40), torch.nn.Linear(40, 3)

        def forward(self, x):
            return self.c(self.b(self.a(x).tanh()).tanh())

    net = Net()
    with pytest.raises(lora.Unreachable, match="at most 179.8 % .* the nearest share is 46.7$"):
        api.unlearn(net, rows[:6], rows[6:], "scrub", lora=50)
    done = api.unlearn(net, rows[:6], rows[6:], "scrub", lora=46.7, curriculum="superloss", progress=False, lr=0.05)
    assert type(done.model) is Net and [*done.model.state_dict()] == [*net.state_dict()]
    assert not done.model.a.weight.equal(net.a.weight) and done.model.a.bias.equal(net.a.bias)
    for wrong, complaint in (
        ({"lora": 5, "lora_rank": 1}, "two answers"),
        ({"lora": 99, "method": "retrain", "fresh": Net}, "a new model"),
    ):
        with pytest.raises(MubenchError, match=complaint):
            api.unlearn(net, rows[:6], rows[6:], **{"method": "scrub", "progress": False} | wrong)


@pytest.mark.parametrize("name", ["ssd", "fisher", "retrain"])
def test_what_edits_weights_itself_is_refused(name):
    from mubench.spec import Incompatible, make_spec

    with pytest.raises(Incompatible, match="LoRA"):
        make_spec(task="fashion", method=name, lora=10)
