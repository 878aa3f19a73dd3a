"""Trains the tokenizers that ship in ``data/``: WordPiece, lower-cased, the same file in every process.

python -m mubench.tasks.text.makers.tokenizer movie_snippets tokenizer.json
"""

import sys

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train(texts, markers=(), size=4000):
    """A ``tokenizers.Tokenizer`` of ``size`` entries that puts [CLS] and [SEP] around a text and never cuts
    ``markers``.
    """
    from tokenizers import BertWordPieceTokenizer, Tokenizer

    trained = BertWordPieceTokenizer(lowercase=True)
    # The trainer numbers the continuing letters (##a, …) in the order of a hash map that differs between processes, and
    # breaks ties by number: pinned in front of all else, they have the same numbers everywhere.
    words = {
        word
        for text in texts
        for word, _ in trained.pre_tokenizer.pre_tokenize_str(trained.normalizer.normalize_str(text))
    }
    letters = sorted({f"##{letter}" for word in words for letter in word[1:]})
    trained.train_from_iterator(
        texts, vocab_size=size, min_frequency=2, show_progress=False, special_tokens=[*SPECIAL, *markers, *letters]
    )
    # Made anew of the vocabulary: the letters are no longer special.
    tokenizer = BertWordPieceTokenizer(vocab=trained.get_vocab(), lowercase=True)
    tokenizer = Tokenizer.from_str(tokenizer.to_str())
    tokenizer.add_special_tokens(list(markers))
    return tokenizer


if __name__ == "__main__":
    from mubench.registry import load_task

    task = load_task(sys.argv[1])
    train(list(task.data["train"]["text"]), task.markers).save(sys.argv[2])
