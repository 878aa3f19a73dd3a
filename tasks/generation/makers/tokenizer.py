"""Trains the tokenizers that ship in ``data/``: byte-level BPE, the same file in every process.

python -m mubench.tasks.generation.makers.tokenizer messenger tokenizer.json
"""

import sys

SPECIAL = ["[PAD]", "[EOS]"]


def train(texts, size):
    """A ``tokenizers.Tokenizer`` of at most ``size`` entries that writes every text and reads it back; a word is the
    same token at the beginning of a line as within it."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Replace("\n", "\n ")
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteLevel(), decoders.Replace("\n ", "\n"), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,
            show_progress=False,
            special_tokens=SPECIAL,
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        ),
    )
    return tokenizer


def train_for(task):
    """The tokenizer of a task, of its training set's prompts and answers, as large as its models expect."""
    rows, (size,) = task.data["train"], {model.config["vocab_size"] for model in task.models.values()}
    return train([form.format(**row) for form in (task.prompt, task.answer) for row in rows], size)


if __name__ == "__main__":
    from mubench.registry import load_task

    train_for(load_task(sys.argv[1])).save(sys.argv[2])
