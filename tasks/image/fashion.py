from mubench.tasks.base import Model, stored
from mubench.tasks.image import ImageClassification
from mubench.train.recipe import Recipe


class Fashion(ImageClassification):
    """Fashion-MNIST, the first 5,000 training and 1,000 test pictures of clothes (28×28, grey, 10 classes); twin of
    cifar100.
    """

    tier = "mini"
    source = "https://github.com/zalandoresearch/fashion-mnist (ships with mubench)"
    licence = "MIT, Zalando SE"
    citation = "Xiao, Rasul & Vollgraf 2017, arXiv:1708.07747"
    labels = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
    random_guess = 1 / 10
    transfer = "the test pictures under noise, blur or contrast loss at three severities (as CIFAR-C)"
    checksum = "1c7fb3da048c1d1a7312f289eb409e35b03224c3e29411ffcdbc300c56a9f75f"
    checksums = {"test": "8cd3e9d66f381f1dd24f181598c043e1d41fb8a851bdf179863d36b865150f05"}
    rows = {"train": 5000, "test": 1000, "transfer": 800}
    recipe = Recipe(lr=3e-3, epochs=10, batch_size=64, lr_schedule="cosine", warmup=0.1)
    models = {
        "resnet": Model(
            "ResNetForImageClassification",
            dict(num_channels=1, embedding_size=16, hidden_sizes=[16, 32, 64], depths=[1, 1, 1], layer_type="basic"),
            inputs=dict(mean=0.2861, std=0.3544),
        ),
        "vit": Model(
            "ViTForImageClassification",
            dict(
                num_channels=1,
                image_size=28,
                patch_size=4,
                hidden_size=64,
                num_hidden_layers=4,
                num_attention_heads=4,
                intermediate_size=128,
                initializer_range=0.125,
                hidden_dropout_prob=0.0,
                attention_probs_dropout_prob=0.0,
            ),
            recipe=dict(lr=2e-3, epochs=14),
            inputs=dict(mean=0.2861, std=0.3544),
        ),
    }

    def read(self):
        return self.with_corrupted(stored(__file__, "fashion"))
