"""What methods say of the authors' codes: their hyperparameters there, and what the suite does otherwise."""

import pytest
import torch

from mubench.errors import MubenchError
from mubench.registry import load_method, load_task, methods, tasks

WITHOUT_CODE = {"eul", "sga_tau"}
MINI = [name for name in tasks.names() if tasks.get(name).tier == "mini"]
PICTURES = [(name, model) for name in MINI if "pixels" in tasks.get(name).provides for model in tasks.get(name).models]


# --- declarations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", methods.modules)
def test_the_authors_settings_are_hyperparameters(name):
    cls = methods.get(name)
    assert (cls.official is None) == (name in WITHOUT_CODE)
    if cls.official is not None:
        made = load_method(name, **cls.official)
        assert {key: getattr(made, key) for key in cls.official} == cls.official
        assert cls.defaults("official") == made.hyperparameters()
        assert all(cls.defaults()[key] != value for key, value in cls.official.items())  # what is not said is equal


@pytest.mark.parametrize("name", sorted(WITHOUT_CODE))
def test_without_official_code_there_is_no_official_protocol(name):
    assert methods.get(name).deviations[0].startswith("There is no official code: ")
    with pytest.raises(MubenchError, match=f"{name} has no official protocol: There is no official code"):
        methods.get(name).defaults("official")


@pytest.mark.parametrize("name", methods.modules)
def test_deviations_are_a_sentence_each_and_tell_what_the_protocols_differ_in(name):
    cls = methods.get(name)
    facts, official = " ".join(cls.deviations), cls.official or {}
    assert all(fact[-1] == "." and len(fact) <= 120 for fact in cls.deviations)
    assert len(set(cls.deviations)) == len(cls.deviations)
    assert bool(cls.deviations) == (name not in ("original", "retrain"))
    assert (official.get("clip") == 0) == ("Gradients are clipped to norm 1; theirs are not." in cls.deviations)
    assert ("epoch_length" in official) == ("epoch_length=" in facts)
    assert "lr" not in official or "rate is" in facts or "Rate and epochs" in facts
    assert "batch_size" not in official or "batch size" in facts
    assert official.get("optimizer", "adamw") == "adamw" or "ptimiser" in facts


def test_who_needs_more_than_retraining_says_so():
    assert [name for name in methods.modules if methods.get(name).unbounded] == ["amnesiac"]


# --- pixels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, model", PICTURES)
def test_the_range_of_inputs_is_what_black_and_white_pictures_become(name, model):
    task, declared = load_task(name), tasks.get(name).models[model]
    stored = "frames" if name == "mocap_actions" else "pixels"
    side, made = declared.inputs.get("size", 8), []
    shape = (1, 1, side, side) if name == "fashion" else (1, 2, 1, side, side)
    for value in (0, 255):
        rest = {"labels": torch.zeros(1), "input_ids": torch.ones(1, 2), "attention_mask": torch.ones(1, 2)}
        made.append(task.collate(rest | {stored: torch.full(shape, value, dtype=torch.uint8)}, model)["pixel_values"])
    black, white = task.input_range(model)
    torch.testing.assert_close(made[0], black.expand_as(made[0]))
    torch.testing.assert_close(made[1], white.expand_as(made[1]))
    assert (white > black).all()


def test_a_step_in_pixels_stays_a_picture_in_whole_bytes():
    method, g = load_method("boundary_shrink", units="pixels", step=0.07), torch.Generator().manual_seed(0)
    mean, std = (torch.tensor(numbers).view(3, 1, 1) for numbers in ((0.5, 0.3, 0.2), (0.25, 0.1, 0.5)))
    method.range = -mean / std, (1 - mean) / std
    pixels, direction = torch.randint(256, (4, 3, 5, 5), generator=g), torch.randint(-1, 2, (4, 3, 5, 5), generator=g)
    moved = method.moved((pixels / 255 - mean) / std, direction)
    expected = (pixels / 255 + 0.07 * direction).clamp(0, 1).mul(255).round()
    torch.testing.assert_close((moved * std + mean) * 255, expected, atol=1e-3, rtol=0)
    assert expected.min() == 0 and expected.max() == 255


def test_both_units_move_by_their_own():
    plain, pixels = load_method("boundary_shrink", step=0.5), load_method("boundary_shrink", step=0.5, units="pixels")
    pixels.range = torch.tensor(-1.0), torch.tensor(3.0)
    x = torch.tensor([0.0, 2.9])
    assert plain.moved(x, torch.ones(2)).tolist() == pytest.approx([0.5, 3.4])
    assert pixels.moved(x, torch.ones(2)).tolist() == pytest.approx([2.0, 3.0], abs=4 / 255)


def test_pixels_are_refused_where_inputs_are_no_pictures():
    wanted = load_method("boundary_shrink", units="pixels").needs
    missing = {name: wanted - set(tasks.get(name).provides) for name in MINI}
    assert {name for name, lacks in missing.items() if not lacks} == {"fashion", "fashion_pairs", "mocap_actions"}
    assert missing["spoken_words"] == missing["movie_snippets"] == {"pixels"}
    with pytest.raises(MubenchError, match="'pixels'"):
        load_method("boundary_shrink", units="pixel")
