from mubench.tasks.base import Model
from mubench.tasks.image import ImageClassification
from mubench.tasks.image.readers.cifar100 import Cifar100Files
from mubench.train.recipe import Recipe


class Cifar100(Cifar100Files, ImageClassification):
    """CIFAR-100 (50,000 / 10,000 pictures of 32×32, 100 classes), scaled to the size its models were pretrained at.

    Pictures are held as bytes of pixels (height, width, channel), whichever source they come from. The published
    originals were trained on 42,500 of the 50,000 rows and selected on the test set; `mubench original cifar100
    --train` trains on all of D.
    """

    source = (
        "https://www.cs.toronto.edu/~kriz/cifar.html; uoft-cs/cifar100 on the Hugging Face Hub; CIFAR-100-C: doi"
        " 10.5281/zenodo.3555552"
    )
    licence = "none stated by the authors (research use); CIFAR-100-C: CC BY 4.0"
    citation = (
        "Krizhevsky 2009, Learning multiple layers of features from tiny images; Hendrycks & Dietterich 2019,"
        " arXiv:1903.12261"
    )
    labels = tuple(
        """
        apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel
        can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
        dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
        lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
        pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea
        seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table
        tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman
        worm
    """.split()
    )
    random_guess = 1 / 100
    transfer = (
        "CIFAR-100-C: each picture of D_t under one of its 15 corruptions at one of 5 severities, where --data-dir"
        " has it"
    )
    rows = {"train": 50_000, "test": 10_000}
    archive = "cifar-100-python"
    remedy = (
        "unpack cifar-100-python.tar.gz (https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz, md5 "
        "eb9058c3a382ffc7106e4002c42a8d85) into FOLDER"
    )
    # As the cards of the first published originals.
    recipe = Recipe(lr=2e-5, epochs=10, batch_size=32, lr_schedule="linear", keep_best=True)
    models = {
        "resnet_18": Model("ResNetForImageClassification", pretrained="microsoft/resnet-18"),
        "resnet_34": Model("ResNetForImageClassification", pretrained="microsoft/resnet-34"),
        "resnet_50": Model(
            "ResNetForImageClassification", pretrained="microsoft/resnet-50", original="jialicheng/cifar100-resnet-50"
        ),
        "mobilenet_v2": Model("MobileNetV2ForImageClassification", pretrained="google/mobilenet_v2_1.0_224"),
        "convnext_base": Model("ConvNextForImageClassification", pretrained="facebook/convnext-base-224"),
        # timm's, converted; no other is known
        "vit_small": Model("ViTForImageClassification", pretrained="WinKawaks/vit-small-patch16-224"),
        "vit_base": Model("ViTForImageClassification", pretrained="google/vit-base-patch16-224-in21k"),
        "vit_large": Model(
            "ViTForImageClassification",
            pretrained="google/vit-large-patch16-224-in21k",
            original="jialicheng/cifar100-vit-large",
        ),
        "swin_tiny": Model("SwinForImageClassification", pretrained="microsoft/swin-tiny-patch4-window7-224"),
        "swin_small": Model("SwinForImageClassification", pretrained="microsoft/swin-small-patch4-window7-224"),
        "swin_base": Model("SwinForImageClassification", pretrained="microsoft/swin-base-patch4-window7-224"),
    }
