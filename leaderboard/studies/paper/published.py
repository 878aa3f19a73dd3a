"""What the MU-Bench paper (Cheng & Amiri 2024, arXiv 2406.14796) prints, as far as it is known here, and its tasks'
twins of the mini tier.
"""

SOURCE = "Cheng & Amiri 2024, arXiv 2406.14796"
CODE = "the authors' code, original_performance.py of CLU-UML/MU-Bench, 48f5c7b"
# Task of the paper → its twin, in the order of Figures 7 to 15.
TWINS = {
    "cifar100": "fashion",
    "imdb": "movie_snippets",
    "ddi": "drug_interactions",
    "nlvr2": "fashion_pairs",
    "speech_commands": "spoken_words",
    "ucf101": "mocap_actions",
    "samsum": "messenger",
    "bio_fact": "people",
    "tiny_imagenet": "digit_pictures",
}
TASKS = tuple(name for pair in TWINS.items() for name in pair)  # each before its twin

# -- Table 1
# ---------------------------------------------------------------------------------------------------------------

# Task → training rows.
ROWS = {
    "cifar100": "50 K",
    "imdb": "25 K",
    "ddi": "25 K",
    "nlvr2": "62 K",
    "speech_commands": "85 K",
    "ucf101": "9.3 K",
    "samsum": "14 K",
    "bio_fact": "183 people",
    "tiny_imagenet": "20 K",
}
# (task, model) → score of the original on the test set, a fraction.
ORIGINAL_SCORES = {
    ("cifar100", "resnet_50"): 0.8328,
    ("cifar100", "swin_tiny"): 0.8714,
    ("cifar100", "swin_base"): 0.9301,
    ("cifar100", "vit_base"): 0.922,
    ("cifar100", "vit_large"): 0.9356,
    ("imdb", "bert_base"): 0.88608,
    ("imdb", "bert_large"): 0.89004,
    ("imdb", "roberta_base"): 0.90164,
    ("imdb", "roberta_large"): 0.9126,
    ("imdb", "electra_base"): 0.90932,
    ("ddi", "biobert"): 0.94577,
    ("ddi", "pubmedbert_abstract"): 0.95224,
    ("ddi", "pubmedbert_fulltext"): 0.95066,
    ("nlvr2", "vilt"): 0.76518,
}
# (task, model) → score of the original on the transfer set.
TRANSFER_SCORES = {
    ("imdb", "bert_base"): 0.80904,
    ("imdb", "bert_large"): 0.82114,
    ("imdb", "roberta_base"): 0.83127,
    ("imdb", "roberta_large"): 0.84374,
    ("imdb", "electra_base"): 0.85528,
    ("nlvr2", "vilt"): 0.76557,
}

# -- Table 2
# ---------------------------------------------------------------------------------------------------------------

# Method → what it measures on D_f, how it corrupts, what it measures on D_r, which parameters it changes.
TAXONOMY = {
    "retrain": ("-", "-", "Loss", "dense internal"),
    "neggrad": ("Loss", "Grad", "-", "dense internal"),
    "rand_label": ("Loss", "Data", "Loss", "dense internal"),
    "bad_t": ("Logit", "Model", "Logit", "dense internal"),
    "scrub": ("Loss", "Grad", "Loss + Rep", "dense internal"),
    "salun": ("Loss", "Data", "Loss", "sparse internal"),
    "l1_sparse": ("-", "-", "Loss + L1", "sparse internal"),
    "multi_delete": ("Rep", "Data", "Rep", "dense internal"),
    "eul": ("Logit + MLM Loss", "Grad", "Logit + Loss", "dense external"),
    "ul": ("Loss", "Grad", "-", "dense internal"),
    # The paper's GNNDelete, of which ours is what is left without a graph.
    "deletion_operator": ("Rep", "Data", "Rep", "dense external"),
    "sga_tau": ("Loss", "Grad", "-", "sparse internal"),
}

# -- Table 3
# ---------------------------------------------------------------------------------------------------------------

# Task → score on D_f without and with the curriculum, in per cent.
CURRICULUM_SCORES = {"speech_commands": (42.8, 17.4), "mean": (46.9, 44.1)}

# -- Tables 5 and 6
# ---------------------------------------------------------------------------------------------------------------

SAME_FIVE = (8.6, 10.7, 14.7, 10.8, 11.5)
SAME_FIVE_NOTE = (
    f"published: {', '.join(map(str, SAME_FIVE))}. Tables 5 and 6 of the paper carry these same five numbers, as"
    " success of the attack and as hours, so one of the two is not what its caption says; which number is which"
    " method's is not known here, so they stand in no column"
)

# -- all others
# ---------------------------------------------------------------------------------------------------------------

NOT_SEEN = (
    "how the paper lays this out, and its numbers, are not known here: this shows what its text says the exhibit is"
    " about"
)
