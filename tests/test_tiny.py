"""The embedded suite: its pictures, what its tiny CLIP was shown, and what that CLIP can do."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from benchmark.tiny import canvas, captions, digits, exam, model, shapes, textures, train

MAX_WEIGHTS_MB = 4
POINT = 0.01  # one point of accuracy
SPLITS = ("train", "val", "test")


def sha(pixels: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def clip():
    return model.build()


@pytest.fixture(scope="module")
def pictures_of() -> dict[tuple[str, str], np.ndarray]:
    """Every picture of the suite at its own size, uint8 pixels_NCHW, by dataset and split."""
    return {
        (d, s): exam.split_pixels(d, s, canvas.SIZE_PX)[0] for d in exam.DATASETS for s in SPLITS
    }


@pytest.fixture(scope="module")
def features(clip) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """image_ND and labels_N as the tiny CLIP sees them, for training and test pictures."""
    features_of = {}
    for dataset in exam.DATASETS:
        for split in ("train", "test"):
            pixels_NCHW, labels_N = exam.split_pixels(dataset, split, clip.visual.image_size[0])
            features_of[dataset, split] = exam.image_features(clip, pixels_NCHW).numpy(), labels_N
    return features_of


@pytest.fixture(scope="module")
def zero_shot(clip, features) -> dict[str, float]:
    """Test accuracy of the class names alone, by dataset."""
    accuracies = {}
    for dataset in exam.DATASETS:
        image_ND, labels_N = features[dataset, "test"]
        guesses_N = (image_ND @ exam.text_features(clip, dataset).numpy().T).argmax(1)
        accuracies[dataset] = float((guesses_N == labels_N).mean())
    return accuracies


PINNED = {
    ("shapes", "striped star", "test", 3): "4ce44c938d748ec4",
    ("shapes", "solid gear", "train", 31): "e27d1b188db7ac81",
    ("textures", "cracked bricks", "val", 0): "f8a79c980901fce6",
    ("textures", "patchy weave", "test", 39): "559d18f6b06db10e",
    ("digits", "seven", "test", 63): "538131290676c871",
}


@pytest.mark.parametrize(("generator", "name", "split", "index"), PINNED)
def test_pictures_are_the_same_on_every_machine(generator, name, split, index):
    picture = import_module(f"benchmark.tiny.{generator}").image(name, split, index, 2026)
    assert (picture.mode, picture.size) == ("RGB", (48, 48))
    assert sha(np.asarray(picture))[:16] == PINNED[generator, name, split, index]


@pytest.mark.parametrize("dataset", exam.DATASETS)
def test_datasets_hold_what_their_specs_say(dataset, pictures_of):
    spec = exam.spec(dataset)
    per_class, counts = spec["source"]["per_class"], spec["counts"]
    assert counts["test"] >= 400
    assert per_class["train"] >= 16
    assert per_class["val"] >= 4
    for split in SPLITS:
        assert pictures_of[dataset, split].shape == (counts[split], 3, 48, 48)
        assert counts[split] == per_class[split] * len(spec["class_names"])


@pytest.mark.parametrize("dataset", exam.DATASETS)
def test_no_picture_occurs_twice(dataset, pictures_of):
    seen = [sha(picture) for split in SPLITS for picture in pictures_of[dataset, split]]
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("drawer", [shapes, textures])
def test_a_third_of_the_drawn_classes_is_held_out(drawer):
    names = exam.spec(f"tiny_{drawer.__name__.rpartition('.')[2]}")["class_names"]
    assert len(names) >= 12
    assert len(set(names)) == len(names)
    assert set(names) >= drawer.HELD_OUT
    assert 3 * len(drawer.HELD_OUT) >= len(names)


@pytest.mark.parametrize("drawer", [shapes, textures, digits])
def test_pictures_that_do_not_exist_are_refused(drawer):
    name = exam.spec(f"tiny_{drawer.__name__.rpartition('.')[2]}")["class_names"][0]
    with pytest.raises(IndexError, match="does not exist"):
        drawer.image(name, "test", -1, 2026)
    with pytest.raises(ValueError, match="no split 'holdout'"):
        drawer.image(name, "holdout", 0, 2026)
    with pytest.raises(ValueError, match="unheard-of"):
        drawer.image("unheard-of thing", "test", 0, 2026)


def test_digits_end_where_their_partition_ends():
    with pytest.raises(IndexError, match="test has 110 of each digit"):
        digits.image("four", "test", 110)


def test_held_out_classes_are_neither_drawn_nor_named_in_training():
    held_out = shapes.HELD_OUT | textures.HELD_OUT
    new_words = {*shapes.NEW_FIGURES, *textures.NEW_PATTERNS}
    pairs = captions.SHAPE_PAIRS + captions.TEXTURE_PAIRS
    assert not held_out & {" ".join(pair) for pair in pairs}
    assert not new_words & set(captions.SUBJECTS)
    rng = np.random.default_rng(0)
    for style, subject in pairs * 20:
        seen = captions.Meaning(
            captions.SUBJECTS.index(subject), captions.STYLES.index(style), int(rng.integers(11))
        )
        text, _ = captions.caption(rng, seen, room=int(rng.integers(40)))
        bare = " ".join(word for word in text.rstrip(".").split() if word not in captions.INKS)
        assert not any(name in bare for name in held_out), text
        assert not new_words & set(bare.split()), text


def test_training_pictures_show_no_held_out_class():
    seen = [captions.picture(1, index)[1] for index in range(400)]
    shown = {f"{captions.STYLES[s.style]} {captions.SUBJECTS[s.subject]}".strip() for s in seen}
    assert len(shown) > 50
    assert not shown & (shapes.HELD_OUT | textures.HELD_OUT)


def test_training_pairs_come_without_scikit_learn_and_without_torch():
    code = (
        "import sys; from benchmark.tiny import captions;"
        "[captions.picture(1, index) for index in range(40)];"
        "print({'sklearn', 'torch', 'benchmark.tiny.digits'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    assert done.stdout.strip() == "set()"


def test_datasets_and_training_draw_from_separate_seeds(monkeypatch):
    streams = []
    stream = canvas.stream
    monkeypatch.setattr(canvas, "stream", lambda *parts: streams.append(parts) or stream(*parts))
    for drawer, name in ((shapes, "solid star"), (textures, "wavy grid")):
        drawer.image(name, "train", 0, 2026)
    captions.picture(2026, 0)
    assert [parts[0] for parts in streams] == ["dataset", "dataset", "pretraining"]


def test_a_caption_is_true_of_every_picture_it_describes():
    seen_N3 = np.array([[0, 1, 5], [0, 1, 6], [2, 1, 5]])
    said_N3 = np.array([[0, 1, captions.UNSAID], [0, 1, 6], [2, 1, 5]])
    expected = [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    assert captions.true_of(said_N3, seen_N3).tolist() == np.array(expected, bool).tolist()


def test_captions_reach_the_positions_that_long_prompts_need():
    rng, words = np.random.default_rng(0), train.Words()
    seen = captions.picture(1, 0)[1]
    texts = [captions.caption(rng, seen, train.TrainingPlan().long_room)[0] for _ in range(200)]
    lengths = (words.matrix(texts, 77) == len(words.ids_U) - 1).int().argmax(1)
    assert lengths.median() > 40
    assert lengths.max() < 76


def test_the_small_word_table_is_clips_tokenizer():
    words, texts = (
        train.Words(),
        ["a photo of the number 7.", "here you see a striped red star seen from above again."],
    )
    assert torch.equal(words.ids_U[words.matrix(texts, 77)][1], words.tokenizer(texts)[1, :14])


def test_the_model_is_open_clips_own(clip):
    import open_clip

    assert type(clip) is open_clip.CLIP
    assert not clip.training
    assert clip.visual.__class__ is open_clip.transformer.VisionTransformer
    assert clip.token_embedding.weight.shape[0] == 49408
    assert all(parameter.dtype == torch.float32 for parameter in clip.parameters())
    assert clip.logit_scale.exp() <= 100.1


def test_tokens_outside_training_share_the_mean_row(clip):
    ids_U = train.Words().ids_U
    rest = torch.ones(49408, dtype=torch.bool).index_fill(0, ids_U, False)
    assert clip.token_embedding.weight[rest].unique(dim=0).shape[0] == 1
    torch.testing.assert_close(
        clip.token_embedding.weight[rest][0], clip.token_embedding.weight[ids_U].mean(0)
    )


def test_cutting_tokens_behind_the_longest_caption_changes_nothing(clip):
    tokens_NL = train.Words().tokenizer(
        ["a photo of a solid star.", "untitled, one striped heart up close again."]
    )
    with torch.no_grad():
        whole = clip.encode_text(tokens_NL, normalize=True)
        cut = train.encode_text(clip, tokens_NL[:, : int(tokens_NL.argmax(1).max()) + 1])
    torch.testing.assert_close(whole, cut)


def test_the_weights_are_small_and_their_provenance_is_theirs():
    provenance = json.loads(model.PROVENANCE.read_text())
    assert model.WEIGHTS.stat().st_size <= MAX_WEIGHTS_MB * 1e6
    assert hashlib.sha256(model.WEIGHTS.read_bytes()).hexdigest() == provenance["weights_sha256"]
    assert provenance["wall_s"] <= 30 * 60


def test_provenance_reports_the_accuracies_that_the_weights_have(zero_shot):
    recorded = json.loads(model.PROVENANCE.read_text())["zero_shot"]
    assert zero_shot == pytest.approx(recorded, abs=POINT / 2)


@pytest.mark.parametrize("dataset", exam.DATASETS)
def test_zero_shot_is_useful_and_leaves_room(dataset, zero_shot):
    chance = 1 / len(exam.spec(dataset)["class_names"])
    assert 3 * chance < zero_shot[dataset] < 0.8


def probe(features, dataset: str, shots: int) -> float:
    """Test accuracy of logistic regression on the first `shots` training pictures of each class."""
    image_ND, labels_N = features[dataset, "train"]
    rows = np.concatenate(
        [np.flatnonzero(labels_N == label)[:shots] for label in np.unique(labels_N)]
    )
    fitted = LogisticRegression(C=100, max_iter=2000).fit(image_ND[rows], labels_N[rows])
    return float(fitted.score(*features[dataset, "test"]))


def test_sixteen_shots_teach_a_linear_probe_more_than_the_names_did(features, zero_shot):
    probed = {
        shots: np.mean([probe(features, dataset, shots) for dataset in exam.DATASETS])
        for shots in (1, 16)
    }
    assert probed[16] - np.mean(list(zero_shot.values())) >= 12 * POINT
    assert probed[16] - probed[1] >= 12 * POINT


def test_the_training_script_runs_from_end_to_end(tmp_path, monkeypatch, capsys):
    flags = [
        "--seed",
        "3",
        "--steps",
        "2",
        "--batch",
        "8",
        "--pictures",
        "16",
        "--workers",
        "0",
        "--out",
    ]
    monkeypatch.setattr(sys, "argv", ["train", *flags, str(tmp_path)])
    train.main()
    record = json.loads((tmp_path / "provenance.json").read_text())
    assert (
        hashlib.sha256((tmp_path / "weights.safetensors").read_bytes()).hexdigest()
        == record["weights_sha256"]
    )
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == record["zero_shot"]
    assert (
        model.build(tmp_path / "weights.safetensors").state_dict().keys()
        == model.untrained().state_dict().keys()
    )
