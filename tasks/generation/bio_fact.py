from mubench.tasks.base import Model
from mubench.tasks.generation import TextGeneration
from mubench.tasks.generation.readers.bio_fact import BioFactFiles
from mubench.train.recipe import Recipe

LENGTHS = dict(prompt=48, answer=256)


class BioFact(BioFactFiles, TextGeneration):
    """Biographies of 183 people, and of 500 others to test on: what InstructGPT wrote about the people of FActScore.

    Which of FActScore's texts MU-Bench learns and forgets is not published, and it has no held-out people. The release
    has two lists of people, who are different ones, and two writers who wrote about both; of these InstructGPT hardly
    ever (0.2 %) declines. So test people come from the same distribution. They are texts to be forgotten, not facts to
    be believed: about half is wrong.
    """

    source = "https://github.com/shmsw25/FActScore, data.zip (labeled: D, unlabeled: test)"
    licence = "MIT (FActScore); models: SmolLM2 Apache-2.0, Alpaca and Vicuna v1.3 research only, as LLaMA"
    citation = "Min et al. 2023, arXiv:2305.14251"
    also = ("verbatim",)
    rows = {"train": 183, "test": 500}
    archive = "data/labeled/InstructGPT.jsonl"
    remedy = (
        "unpack FActScore's data.zip (https://drive.google.com/drive/folders/1kFey69z8hGXScln01mVxrOhrqgM62X7I, as "
        "https://github.com/shmsw25/FActScore/issues/52 says; or `python -m factscore.download_data`) into FOLDER"
    )
    prompt, answer = "Question: Tell me a bio of {name}.\n", "{biography}"  # as FActScore asked
    unit_kinds = ("person", "row")
    measured = {"train": 100, "retain": 100, "test": 100}
    evaluation_batch = 16
    recipe = Recipe(lr=2e-5, epochs=10, batch_size=16, lr_schedule="linear", warmup=0.1)
    # SmolLM2 fits a laptop; Alpaca's authors publish only a difference to LLaMA's weights, chavinlo's are a training of
    # their own
    models = {
        "smollm2_360m": Model(
            "LlamaForCausalLM", pretrained="HuggingFaceTB/SmolLM2-360M-Instruct", recipe=dict(lr=1e-4), inputs=LENGTHS
        ),
        "alpaca_7b": Model("LlamaForCausalLM", pretrained="chavinlo/alpaca-native", inputs=LENGTHS),
        "alpaca_13b": Model("LlamaForCausalLM", pretrained="chavinlo/alpaca-13b", inputs=LENGTHS),
        "vicuna_7b": Model("LlamaForCausalLM", pretrained="lmsys/vicuna-7b-v1.3", inputs=LENGTHS),
        "vicuna_13b": Model("LlamaForCausalLM", pretrained="lmsys/vicuna-13b-v1.3", inputs=LENGTHS),
    }

    def units(self, kind):
        """The person a row is about."""
        return self.data["train"]["name"] if kind == "person" else super().units(kind)
