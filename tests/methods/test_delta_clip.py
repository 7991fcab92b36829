"""ΔCLIP: the adversarial contrastive step, the checkpoint of both towers, and the road of the released weights."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vlm_gauntlet.fixtures.backbone import Backbone
from vlm_gauntlet.fixtures.errors import GauntletError, UnavailableError
from vlm_gauntlet.fixtures.prompts import PromptSet
from vlm_gauntlet.methods import own_checkpoint
from vlm_gauntlet.methods.delta_clip import method as module
from vlm_gauntlet.methods.delta_clip.method import DeltaCLIP
from vlm_gauntlet.methods.delta_clip.released import CONFIG, VOCABULARY, WEIGHTS, fetched, load_released
from vlm_gauntlet.methods.delta_clip.train import TABLE, DeltaTraining, train
from vlm_gauntlet.methods.delta_clip.word_pieces import WordPieces
from vlm_gauntlet.training.checkpoint import packed_difference
from vlm_gauntlet.training.job import TrainingJob
from vlm_gauntlet.training.miniclip.train import MiniCLIPTraining
from vlm_gauntlet.training.recipe import Phase
from vlm_gauntlet.training.samples import Batch
from vlm_gauntlet.training.trainer import make_optimiser

VISION = {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16}
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[bos]", "[eos]", "a", "photo", "of", "cat", "dog", "##s", "un", "##aff", "##able",
          ".", "cafe"]  # fmt: skip
PAD, UNK, CLS, BOS, EOS = range(5)


def fresh() -> open_clip.CLIP:
    torch.manual_seed(3)
    text = {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 1}
    return open_clip.CLIP(embed_dim=16, vision_cfg=VISION, text_cfg=text)


def phase(eps: str) -> Phase:
    attack = {"eps": eps, "steps": 2, "step_size": "8/255"}
    optimiser = {"name": "adamw", "learning_rate": 1e-3, "groups": {"plain": {"weight_decay": 0}}}
    return Phase(epochs=1, batch_size=6, optimiser=optimiser, attack=attack)


@pytest.fixture
def batch(images: Tensor) -> Batch:
    """Six pictures, three captions; the token with the highest id ends each."""
    tokens = torch.tensor([[1, 5, 39, 0, 0, 0, 0, 0], [1, 6, 7, 39, 0, 0, 0, 0], [1, 8, 39, 0, 0, 0, 0, 0]])
    return Batch({"views": images, "tokens": tokens, "index": torch.tensor([0, 1, 2, 0, 1, 2])}, tuple(range(6)))


def test_without_a_budget_it_is_clips_own_loss(batch: Batch) -> None:
    clean = MiniCLIPTraining(fresh()).loss(batch, phase("0"))
    found = DeltaTraining(fresh()).loss(batch, phase("0"))
    assert {name: term.item() for name, term in found.items()} == pytest.approx({n: t.item() for n, t in clean.items()})


def test_the_attack_goes_up_and_leaves_no_gradient(batch: Batch) -> None:
    training = DeltaTraining(fresh())
    make_optimiser(training, phase("16/255"))
    clean, attacked = (sum(training.loss(batch, phase(eps)).values()).item() for eps in ("0", "16/255"))
    assert attacked > clean + 0.005
    assert all(w.grad is None for w in training.weights.values())


def test_both_towers_learn_and_the_token_table_does_not(batch: Batch) -> None:
    training = DeltaTraining(fresh())
    assert TABLE not in training.weights and {"decayed", "plain"} == set(training.groups("full"))
    make_optimiser(training, phase("8/255"))
    training.model.token_embedding.requires_grad_(False)
    sum(training.loss(batch, phase("8/255")).values()).backward()
    grads = {name: w.grad for name, w in training.weights.items()}
    assert all(g is not None for g in grads.values()) and grads["logit_scale"] != 0
    assert grads["text_projection"].norm() > 0 and grads["visual.proj"].norm() > 0
    assert training.model.token_embedding.weight.grad is None


def test_a_checkpoint_replaces_both_towers(
    tiny_backbone: Backbone, images: Tensor, prompts: PromptSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    torch.manual_seed(11)
    named = {n: p for n, p in tiny_backbone.clip.named_parameters() if n != TABLE}
    trained = {name: p + 0.1 * torch.randn_like(p) for name, p in named.items()}
    (tmp_path / "tiny.safetensors").write_bytes(
        packed_difference({n: torch.zeros_like(p) for n, p in named.items()}, trained)
    )
    before = tiny_backbone(images, prompts)
    monkeypatch.setattr(own_checkpoint, "load_checkpoint", lambda *_, **__: trained)
    defence = DeltaCLIP(tiny_backbone)
    assert (defence(images, prompts) - before).abs().max() > 0.01
    assert torch.equal(tiny_backbone(images, prompts), before), "the backbone is never changed"
    visual = tiny_backbone.tuned(
        {n.removeprefix("visual."): trained[n] - p for n, p in named.items() if n.startswith("visual.")}
    )
    assert not torch.allclose(defence.robust.text_features(prompts), visual.text_features(prompts)), "texts, too"
    assert torch.allclose(defence.robust.encode_image(images), visual.encode_image(images), atol=1e-4)
    found = defence.robust.tunable(text=True)
    assert all(torch.equal(p, trained[n]) for n, p in defence.robust.clip.named_parameters() if n != TABLE)
    assert torch.equal(found[f"clip.{TABLE}"], tiny_backbone.clip.token_embedding.weight)
    assert defence.robust.text_digest != tiny_backbone.text_digest, "texts attacked on another tower are kept apart"


def test_what_cannot_be_pretrained_is_said(tiny_backbone: Backbone, tmp_path: Path, job_of) -> None:
    job: TrainingJob = job_of("delta_clip", tmp_path)
    with pytest.raises(GauntletError, match="a pre-training of 'tiny'"):
        train(job)
    with pytest.raises(UnavailableError, match="gauntlet train delta_clip --backbone tiny --data miniclip-sources"):
        DeltaCLIP(tiny_backbone)


@pytest.mark.parametrize(
    ("sentence", "ids"),
    [
        ("A photo of a CAT.", [5, 6, 7, 5, 8, 14]),
        ("dogs", [9, 10]),
        ("unaffable", [11, 12, 13]),
        ("caf\u00e9", [15]),
        ("zebra dog", [UNK, 9]),
        ("cat-dog", [8, UNK, 9]),
        ("\u732bcat \u732b", [UNK, 8, UNK]),
        ("", []),
    ],
)
def test_word_pieces_by_hand(sentence: str, ids: list[int]) -> None:
    assert WordPieces(PIECES, context=10).pieces(sentence) == ids


def test_a_row_begins_ends_and_is_followed_by_cls() -> None:
    rows = WordPieces(PIECES, context=7)(["a cat", "a photo of a dog", "dogs dogs dogs"])
    assert rows.tolist() == [
        [BOS, 5, 8, EOS, PAD, PAD, CLS],
        [BOS, 5, 6, 7, 5, EOS, CLS],
        [BOS, 9, 10, 9, 10, EOS, CLS],
    ]


def test_tokens_do_not_depend_on_company_unless_the_first_row_decides() -> None:
    """As coded: behind a long first sentence a short one has a second [eos], behind a short one a long one none."""
    sentences = ["a photo of a dog", "a cat"]
    alone, coded = (WordPieces(PIECES, context=7, first_row_decides=d) for d in (False, True))
    assert torch.equal(alone(sentences), torch.cat([alone([s]) for s in sentences]))
    assert torch.equal(coded([sentences[0]]), alone([sentences[0]]))
    assert coded(sentences)[1].tolist() == [BOS, 5, 8, EOS, PAD, EOS, CLS]
    assert coded(sentences[::-1])[1].tolist() == [BOS, 5, 6, 7, 5, 9, CLS]


def test_a_plain_bert_vocabulary_has_them_under_other_names() -> None:
    """bert_base_vocab_bos_eos.txt is BERT's with [unused0] and [unused1], ids 1 and 2, renamed."""
    plain = ["[PAD]", "[unused0]", "[unused1]", "[UNK]", "[CLS]", "cat"]
    assert WordPieces(plain, context=5)(["cat"]).tolist() == [[1, 5, 2, 0, 4]]


def test_a_vocabulary_without_the_added_tokens_is_refused() -> None:
    with pytest.raises(GauntletError, match=r"without \[bos\]"):
        WordPieces([p for p in PIECES if p != "[bos]"], context=8)


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """A small stand-in for a released folder: the configuration with the fork's field, weights, vocabulary."""
    text = {"context_length": 8, "vocab_size": 40, "width": 16, "heads": 2, "layers": 1, "pool_type": "last"}
    vision = VISION | {"no_ln_pre": True, "pool_type": "avg", "final_ln_after_pool": True}
    torch.manual_seed(5)
    clip = open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text)
    torch.save(clip.state_dict(), tmp_path / WEIGHTS)
    config = {
        "model_cfg": {
            "embed_dim": 16,
            "vision_cfg": vision,
            "text_cfg": text | {"vocab_path": "/home/somebody/vocab.txt"},
        },
        "preprocess_cfg": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "resize_mode": "squash"},
    }
    (tmp_path / CONFIG).write_text(json.dumps(config))
    (tmp_path / VOCABULARY).write_text("\n".join(PIECES) + "\n")
    return tmp_path


def test_released_weights_load_as_their_authors_use_them(released: Path, images: Tensor) -> None:
    """Stock open_clip refuses the configuration; the logits are those of ImageNet's constants and these tokens."""
    config = json.loads((released / CONFIG).read_text())["model_cfg"]
    with pytest.raises(TypeError, match="vocab_path"):
        open_clip.CLIP(**config)
    prompts = PromptSet.from_templates(["cat", "dogs"], ["a photo of {c}"])
    found = load_released(released)(images, prompts)
    del config["text_cfg"]["vocab_path"]
    clip = open_clip.CLIP(**config).eval()
    clip.load_state_dict(torch.load(released / WEIGHTS, weights_only=True))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    tokens = torch.tensor([[BOS, 5, 6, 7, 8, EOS, PAD, CLS], [BOS, 5, 6, 7, 9, 10, EOS, CLS]])
    with torch.no_grad():
        image, text = clip.encode_image((images - mean) / std), clip.encode_text(tokens)
        by_hand = clip.logit_scale.exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    assert torch.allclose(found, by_hand, atol=1e-4)


def test_a_real_clip_gets_the_released_towers(
    released: Path, tiny_backbone: Backbone, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.NAMES, "tiny", ("zw123/stand-in", "0000000"))
    monkeypatch.setattr(module, "fetched", lambda name: released)
    prompts = PromptSet.from_templates(["cat", "dogs"], ["a photo of {c}"])
    coded = DeltaCLIP(tiny_backbone, {"row_end": "first-row"})
    assert torch.equal(DeltaCLIP(tiny_backbone)(images, prompts), load_released(released)(images, prompts))
    assert coded.robust.tokenize.first_row_decides
    passes = tiny_backbone.passes.forward
    coded(images, prompts)
    assert tiny_backbone.passes.forward == passes + 6, "what it costs is counted where others count"


@pytest.mark.parametrize("change", ["mean", "vision", "vocabulary", "file"])
def test_what_would_give_a_wrong_number_is_refused(change: str, released: Path) -> None:
    config = json.loads((released / CONFIG).read_text())
    if change == "mean":
        del config["preprocess_cfg"]["mean"]
    elif change == "vision":
        del config["model_cfg"]["vision_cfg"]["no_ln_pre"]
    elif change == "vocabulary":
        (released / VOCABULARY).write_text("\n".join([*PIECES, *(f"word{i}" for i in range(40))]))
    else:
        (released / WEIGHTS).unlink()
    (released / CONFIG).write_text(json.dumps(config))
    with pytest.raises(GauntletError):
        load_released(released)


def test_files_come_by_hand_or_from_a_commit_that_is_known_in_full(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import huggingface_hub

    asked: list[object] = []

    def unreachable(*_: object, **how: object) -> str:
        asked.append(how["revision"])
        raise OSError("no network")

    monkeypatch.setenv("GAUNTLET_DATA", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", unreachable)
    with pytest.raises(UnavailableError, match="7 digits of its commit, 5df0035: that pins nothing"):
        fetched("open_clip:ViT-L-14-quickgelu/openai")
    assert not asked
    monkeypatch.setitem(module.NAMES, "tiny", ("zw123/stand-in", "0" * 40))
    with pytest.raises(UnavailableError, match="hf download zw123/stand-in"):
        fetched("tiny")
    assert asked == ["0" * 40]
    place = tmp_path / "weights" / "delta_clip" / "stand-in"
    place.mkdir(parents=True)
    assert fetched("tiny") == place
