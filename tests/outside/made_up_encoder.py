"""A made-up encoder architecture: BERT under another name. Its module comes along to the workers."""

from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel, BertTokenizer

from pipelines.encoder.architectures import ARCHITECTURES


class MadeUpConfig(BertConfig):
    model_type = "made-up"


class MadeUpModel(BertModel):
    config_class = MadeUpConfig


AutoConfig.register("made-up", MadeUpConfig)
AutoModel.register(MadeUpConfig, MadeUpModel)
AutoTokenizer.register(MadeUpConfig, slow_tokenizer_class=BertTokenizer)
ARCHITECTURES["made-up"] = ARCHITECTURES["bert"]
