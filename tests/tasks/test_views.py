"""Views of sets in data loaders: the same batches from worker processes, threads and copies as from the view itself."""

import pickle
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils.data import DataLoader

from mubench import registry
from mubench.errors import MubenchError
from mubench.examples import Decoded, Examples, Wrapped
from mubench.registry import load_task

LAZY = [name for name in registry.tasks.names() if registry.tasks.get(name).lazy]
CHUNKS = [torch.tensor(positions) for positions in ([3, 0, 17], [5], list(range(20, 40)), [8, 8])]


@pytest.fixture(scope="module", params=LAZY)
def view(request):
    """The training set of a task on its sample, whose batches are decoded when they are asked for."""
    with tempfile.TemporaryDirectory() as folder:
        task = load_task(request.param).sample(folder)
        yield task.prepared(task.model(), "train").select(torch.arange(50).flip(0))


@pytest.fixture(scope="module")
def batches(view):
    return [view[chunk] for chunk in CHUNKS]


def same(batches, others):
    """Whether batches have the same columns with the same bits."""
    return len(batches) == len(others) and all(
        batch.keys() == other.keys() and all(torch.equal(batch[name], other[name]) for name in batch)
        for batch, other in zip(batches, others, strict=True)
    )


def test_what_is_large_is_decoded_when_it_is_asked_for(view):
    assert {"nlvr2", "speech_commands", "ucf101"} <= set(LAZY)
    assert view.decodes and view.select(torch.arange(3)).decodes and (view + view).decodes


@pytest.mark.parametrize("start, workers", [("fork", 2), ("spawn", 1)])  # a spawned process imports all anew
def test_worker_processes_give_the_same_bits(view, batches, start, workers):
    state = torch.get_rng_state()
    loader = DataLoader(
        view,
        sampler=CHUNKS,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context=start,
        generator=torch.Generator(),
    )
    assert same(list(loader), batches)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_copy_gives_the_same_bits(view, batches):
    copy = pickle.loads(pickle.dumps(view))
    assert same([copy[chunk] for chunk in CHUNKS], batches) and copy.decodes


def test_threads_give_the_same_bits(view, batches):
    with ThreadPoolExecutor(4) as pool:
        assert same(list(pool.map(view.__getitem__, CHUNKS * 3)), batches * 3)


def test_a_damaged_file_is_named_by_worker_processes_too(tmp_path):
    task = load_task("ucf101").sample(tmp_path)
    view = task.prepared(task.model(), "train")
    with open(task.data["train"][0]["video"], "wb"):
        pass
    with pytest.raises(MubenchError, match="is no video that can be decoded"):
        list(DataLoader(view, sampler=[torch.tensor([0])], batch_size=None, num_workers=1))


def test_decoded_views_of_two_sets_add_up(tmp_path):
    task = load_task("ucf101").sample(tmp_path)
    train, test = (task.prepared(task.model(), name) for name in ("train", "test"))
    both = train.select(torch.tensor([2, 1])) + test.select(torch.tensor([0, 4]))
    assert both.rows.tolist() == [2, 1, len(train), len(train) + 4] and len(both) == 4
    batch, parts = both[torch.tensor([1, 3])], (train[torch.tensor([1])], test[torch.tensor([4])])
    assert torch.equal(batch["pixel_values"], torch.cat([part["pixel_values"] for part in parts]))
    assert torch.equal(batch["labels"], torch.cat([part["labels"] for part in parts]))
    assert isinstance(train + train, Decoded) and (train + train).dataset is train.dataset


@pytest.mark.parametrize("workers", [0, 2])
def test_views_in_memory_go_into_a_loader_too(workers):
    task = load_task("fashion")
    view = task.sets("resnet", task.split(1))["forget"]
    assert isinstance(view, Examples) and not view.decodes
    loader = DataLoader(view, sampler=CHUNKS, batch_size=None, num_workers=workers)
    assert same(list(loader), [view[chunk] for chunk in CHUNKS])
    copy = pickle.loads(pickle.dumps(view.collate))  # without the data the task has read
    assert "data" not in vars(copy.func.__self__) and copy.func.__self__.name == "fashion"


def test_what_a_user_wraps_is_read_by_the_process_itself():
    items = [{"x": torch.full((2,), float(i)), "label": i} for i in range(9)]
    view = Wrapped(items).select(torch.tensor([4, 2, 7]))
    assert not view.decodes
    batch = view[torch.tensor([2, 0])]
    assert batch["x"].tolist() == [[7.0, 7.0], [4.0, 4.0]] and batch["labels"].tolist() == [7, 4]
    assert batch["index"].tolist() == [7, 4] and (view + view).rows.tolist() == [4, 2, 7, 13, 11, 16]


TASK = '''
from mubench.tasks.base import Model
from mubench.tasks.video import VideoClassification


class Mine(VideoClassification):
    """Squares that move, read from a file each."""

    source = licence = "this test"
    lazy = True
    labels = ("a", "b")
    models = {"m": Model("VideoMAEForVideoClassification", inputs=dict(mean=0.5, std=0.5, size=16, frames=4))}

    def read(self):
        from datasets import Dataset, DatasetDict

        rows = Dataset.from_dict({"video": FILES, "label": [0, 1]})
        return DatasetDict(train=rows, test=rows)
'''


def test_a_task_in_a_file_of_the_users_is_found_by_worker_processes(tmp_path):
    import numpy as np

    from mubench.tasks.video.readers.clips import write_clip

    files = [str(tmp_path / f"{name}.avi") for name in "ab"]
    for number, path in enumerate(files):
        write_clip(tmp_path / path, np.full((12, 32, 48, 3), 80 * number, np.uint8))
    (tmp_path / "mine.py").write_text(TASK.replace("FILES", repr(files)))
    task = load_task(f"{tmp_path}/mine.py:Mine")
    view = task.prepared("m", "train")
    loader = DataLoader(
        view, sampler=[torch.tensor([1, 0])], batch_size=None, num_workers=1, multiprocessing_context="spawn"
    )
    assert same(list(loader), [view[torch.tensor([1, 0])]])
