"""Pretraining models in which masking and attention share one context: building, forward, training, files."""

import copy
import itertools
import pickle

import pytest
import torch
from hydra.errors import InstantiationException
from omegaconf import OmegaConf, open_dict

from nemo.collections.asr.data.ssl_dataset import AudioNoiseBatch
from nemo.collections.asr.models.ssl_models import EncDecDenoiseMaskedTokenPredModel, EncDecMaskedTokenPredModel
from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder
from nemo.collections.asr.parts.utils.streaming_utils import dynamic_context, set_dynamic_context
from nemo.utils import logging

DENSE = {"masking.mask_prob": 0.15}
"""Masks enough of a few seconds that there are always targets."""


def noisy_batch(audio, lengths) -> AudioNoiseBatch:
    noise = 0.01 * torch.randn(audio.shape, generator=torch.Generator().manual_seed(1))
    return AudioNoiseBatch(
        audio=audio,
        audio_len=lengths,
        noise=noise,
        noise_len=lengths,
        noisy_audio=audio + noise,
        noisy_audio_len=lengths,
    )


def loss_of(model, audio, lengths):
    """The training loss of one batch, as `training_step` computes it, without a trainer."""
    denoise = isinstance(model, EncDecDenoiseMaskedTokenPredModel)
    batch = noisy_batch(audio, lengths) if denoise else (audio, lengths)
    return model._training_loss(**model._signals(batch))[0]


@pytest.fixture
def warnings(monkeypatch) -> list[str]:
    given = []
    monkeypatch.setattr(logging, "warning", lambda message, *args, **kwargs: given.append(str(message)))
    return given


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
@pytest.mark.parametrize(("pad_to", "causal"), itertools.product([0, 16], [True, False]))
def test_every_combination_trains_on_any_length(tiny_model, audio, denoise, mask_position, pad_to, causal):
    """Of these, NeMo trains one: pad_to 16, no causal subsampling, masking before the convolutions."""
    model = tiny_model(
        {
            **DENSE,
            "mask_position": mask_position,
            "preprocessor.pad_to": pad_to,
            "encoder.causal_downsampling": causal,
        },
        denoise=denoise,
    ).train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    signal, lengths = audio
    for samples in (64000, 63999, 64160, 41613):
        loss = loss_of(model, signal[:, :samples], lengths.clamp(max=samples))
        assert loss.isfinite() and loss > 0
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert unused == []


def test_one_context_serves_masking_and_attention_in_every_training_forward(tiny_model, audio):
    model = tiny_model(DENSE).train()
    masked, attended = [], []
    model.mask_processor.register_forward_pre_hook(
        lambda module, args, kwargs: masked.append(kwargs["effective_left_context"]), with_kwargs=True
    )

    def attention_mask(module, args, kwargs):
        seen = (~kwargs["att_mask"][0]).sum(-1)
        attended.append(int(seen.max()))

    model.encoder.layers[0].register_forward_pre_hook(attention_mask, with_kwargs=True)
    used = []
    for _ in range(20):
        loss_of(model, *audio)
        used.append(model.current_att_context[0])
    assert masked == used and set(used) == {8, 16, -1}
    frames = 51  # of the longer utterance: floor(400 / 8) + 1
    assert attended == [frames if left < 0 else left + 1 for left in used]


def test_drawing_depends_on_seed_and_count_alone(tiny_model, audio):
    torch.manual_seed(0)
    first, other = tiny_model(DENSE).train(), tiny_model({**DENSE, "context_seed": 1}).train()

    def draws(model, number):
        for _ in range(number):
            loss_of(model, *audio)
            yield tuple(model.current_att_context)

    expected = list(draws(first, 12))
    assert expected == [(c.left, c.right) for c in map(first.context_sampler.at, range(12))]
    assert list(draws(other, 12)) != expected
    twin = tiny_model(DENSE).train()
    first_half = list(draws(twin, 5))
    twin.eval().forward(*audio, apply_mask=True)
    twin.validation_contexts = [[8, 0]]
    twin.inference_pass(noisy_batch(*audio))
    twin.train()
    torch.manual_seed(99)
    assert first_half + list(draws(twin, 7)) == expected


def test_evaluation_uses_the_context_that_was_set_by_hand(tiny_model, audio):
    model = tiny_model(DENSE).eval()
    outputs = {}
    for left in (8, 16):
        model.encoder.att_context_size = [left, 0]
        outputs[left], *_ = model.forward(*audio, apply_mask=False)
        assert model.current_att_context == [left, 0]
    assert (outputs[8] - outputs[16]).abs().max() > 1e-4


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
def test_clean_audio_alone_goes_in_by_position(tiny_model, audio, denoise, mask_position):
    model = tiny_model({"mask_position": mask_position}, denoise=denoise).eval()
    log_probs, encoded_len, masks, tokens = model.forward(*audio, apply_mask=False)
    assert encoded_len.tolist() == [51, 34]
    assert log_probs.shape == (2, 51, 32, 1) and masks.sum() == 0
    assert tokens.shape[:2] == (2, 51)
    by_name = model.forward(input_signal=audio[0], input_signal_length=audio[1])
    torch.testing.assert_close(by_name[0], log_probs)


def test_noisy_features_are_taken_under_both_of_their_names(tiny_model, audio):
    model = tiny_model().eval()
    features, lengths = model.preprocessor(input_signal=audio[0], length=audio[1])
    clean = dict(processed_signal=features, processed_signal_length=lengths)
    noisy = features + 0.5
    argument, *_ = model.forward(
        **clean, processed_noisy_input_signal=noisy, processed_noisy_input_signal_length=lengths
    )
    typed, *_ = model.forward(**clean, processed_noisy_signal=noisy, processed_noisy_signal_length=lengths)
    plain, *_ = model.forward(**clean)
    torch.testing.assert_close(argument, typed)
    assert (argument - plain).abs().max() > 1e-3
    with pytest.raises(ValueError, match="two names of one argument"):
        model.forward(
            **clean,
            processed_noisy_input_signal=noisy,
            processed_noisy_signal=noisy,
            processed_noisy_signal_length=lengths,
        )


def test_wrong_signals_are_named(tiny_model, audio):
    model = tiny_model().eval()
    features, lengths = model.preprocessor(input_signal=audio[0], length=audio[1])
    with pytest.raises(ValueError, match="either input_signal or processed_signal.*neither"):
        model.forward()
    with pytest.raises(ValueError, match="input_signal and processed_signal"):
        model.forward(*audio, features, lengths)
    with pytest.raises(ValueError, match="input_signal without input_signal_length"):
        model.forward(audio[0])
    with pytest.raises(ValueError, match="noisy_input_signal without noisy_input_signal_length"):
        model.forward(*audio, noisy_input_signal=audio[0])
    with pytest.raises(TypeError, match="Input shape"):
        model.forward(audio[0][0], audio[1])


def test_an_unmasked_forward_in_training_mode_warns_once(tiny_model, audio, warnings):
    model = tiny_model().train()
    warnings.clear()
    for _ in range(3):
        model.forward(*audio, apply_mask=False)
    assert len(warnings) == 1 and "model.eval()" in warnings[0]
    model.eval().forward(*audio, apply_mask=False)
    assert len(warnings) == 1


@pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
def test_a_batch_without_targets_has_loss_zero_and_a_gradient(tiny_model, audio, mask_position):
    model = tiny_model({"masking.mask_prob": 0.0, "mask_position": mask_position}).train()
    loss = loss_of(model, *audio)
    assert loss == 0
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("denoise", [True, False])
@pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
def test_scoring_the_targets_alone_changes_neither_loss_nor_gradient(
    tiny_model, audio, monkeypatch, denoise, mask_position
):
    model = tiny_model({**DENSE, "mask_position": mask_position}, denoise=denoise).eval()
    decoded, codebook = [], []
    model.decoder.register_forward_hook(lambda decoder, _, log_probs: decoded.append(log_probs.shape[:2].numel()))

    def loss_and_gradient(alone: bool):
        monkeypatch.setattr(type(model), "_scores_targets_alone", alone)
        torch.manual_seed(1)  # the masks
        model.codebook_health.reset()
        loss = loss_of(model, *audio)
        codebook.append(model.codebook_health.compute())
        return loss, *torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])

    assert model._scores_targets_alone
    ours, expected = loss_and_gradient(True), loss_and_gradient(False)
    assert 0 < decoded[0] < decoded[1]
    assert codebook[0] == codebook[1] and codebook[0]["target_perplexity"] > 1
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_a_forward_of_somebodys_own_is_the_one_that_trains(tiny_model, audio):
    class Louder(EncDecDenoiseMaskedTokenPredModel):
        def forward(self, *args, **kwargs):
            log_probs, *others = super().forward(*args, **kwargs)
            return 2 * log_probs, *others

    model = tiny_model(DENSE).eval()
    torch.manual_seed(1)
    expected = 2 * loss_of(model, *audio)
    model.__class__ = Louder
    torch.manual_seed(1)
    torch.testing.assert_close(loss_of(model, *audio), expected)


def test_a_forward_repeated_in_the_backward_sees_the_same_context(tiny_model, audio):
    """Activation checkpointing runs the encoder again; the next batch's context must not be drawn for it."""
    from torch.utils.checkpoint import checkpoint

    model = tiny_model({**DENSE, "encoder.dropout": 0, "encoder.dropout_pre_encoder": 0, "encoder.dropout_att": 0})
    model.train()
    features, lengths = model.preprocessor(input_signal=audio[0], length=audio[1])
    lefts = []
    layer = model.encoder.layers[0]
    layer.register_forward_pre_hook(
        lambda module, args, kwargs: lefts.append(int((~kwargs["att_mask"][0]).sum(-1).max())), with_kwargs=True
    )
    for _ in range(6):
        model._choose_context()
        encoded, _ = checkpoint(
            lambda x: model.encoder(audio_signal=x, length=lengths), features.requires_grad_(), use_reentrant=False
        )
        encoded.sum().backward()
    assert lefts[0::2] == lefts[1::2] and len(set(lefts)) > 1


def seen_by(model: torch.nn.Module, frame: int, features: int = 160) -> list[int]:
    """The feature frames that one encoder frame's subsampling depends on, by gradient."""
    signal = torch.randn(1, features, 80, requires_grad=True)
    pre_encode = model.encoder.pre_encode
    out, _ = (pre_encode.pre_encode if model.pre_encoder is not None else pre_encode)(
        x=signal, lengths=torch.tensor([features])
    )
    out[0, frame].pow(2).sum().backward()
    return signal.grad[0].abs().sum(-1).nonzero().flatten().tolist()


@pytest.mark.parametrize(
    ("subsampling", "causal", "shift"),
    [
        ("dw_striding", True, 1),
        ("striding", True, 1),
        ("dw_striding", False, 0),
        ("striding", False, 0),
        ("stacking", False, 0),
        ("stacking_norm", False, 0),
    ],
)
def test_a_token_is_predicted_by_the_first_frame_that_has_seen_it(tiny_model, subsampling, causal, shift):
    model = tiny_model({"encoder.subsampling": subsampling, "encoder.causal_downsampling": causal})
    assert model.target_shift == model.loss.target_shift == shift
    token = 9
    last = 8 * token + 7
    assert seen_by(model, token + shift)[-1] >= last
    if shift:
        assert seen_by(model, token + shift - 1)[-1] < last


def test_the_shift_of_targets_can_be_set(tiny_model):
    assert tiny_model({"target_shift": 0}).loss.target_shift == 0
    assert tiny_model({"target_shift": 2}).loss.target_shift == 2
    assert tiny_model({"mask_position": "post_conv"}).loss.target_shift == 0
    with pytest.raises(ValueError, match="model.target_shift must be .* got -1"):
        tiny_model({"target_shift": -1})
    with pytest.raises(TypeError, match="model.target_shift must be .* got 'later'"):
        tiny_model({"target_shift": "later"})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"encoder.reduction": "pooling", "encoder.reduction_position": 0, "encoder.reduction_factor": 2},
            "encoder.reduction",
        ),
        ({"encoder.subsampling": "vggnet"}, "encoder.subsampling must be .* got 'vggnet'"),
        ({"encoder.subsampling": "striding_conv1d"}, "encoder.subsampling must be .* got 'striding_conv1d'"),
        ({"encoder.att_context_size": [[0, 0], [8, 0]]}, r"lists \[0, 0\].*never have a target"),
        ({"encoder.att_context_probs": [0.5, 0.2, 0.2]}, "encoder.att_context_probs.*sums to 0.9"),
        ({"encoder.att_context_probs": [0.5, 0.5]}, "encoder.att_context_probs has 2 entries"),
        ({"encoder.att_context_size": []}, "encoder.att_context_size is empty"),
        (
            {"encoder.att_context_style": "chunked_limited", "encoder.att_context_size": [[70, 13], [71, 6]]},
            r"encoder.att_context_size is \[71, 6\]",
        ),
        ({"encoder.self_attention_model": "rel_pos_local_attn"}, "local attention"),
        ({"mask_position": "behind"}, "model.mask_position is 'behind'"),
        ({"mask_position": "post_conv", "masking.block_size": 5}, "masking.block_size is 5"),
    ],
)
def test_configs_that_cannot_work_are_refused_when_the_model_is_built(tiny_model, overrides, message):
    with pytest.raises((ValueError, InstantiationException), match=message):
        tiny_model(overrides)


def test_a_left_context_of_zero_is_fine_without_causal_masking(tiny_model):
    model = tiny_model({"encoder.att_context_size": [[0, 0], [8, 0]], "masking.causal": False})
    assert model.encoder.att_context_size == [0, 0]


def test_probabilities_that_sum_to_one_but_for_rounding_are_taken(tiny_model):
    contexts = [[left, 0] for left in range(8, 88, 8)]
    model = tiny_model({"encoder.att_context_size": contexts, "encoder.att_context_probs": [0.1] * 10})
    assert len(model.context_sampler.contexts) == 10


def test_a_causal_model_is_in_sync_from_its_construction_on(tiny_model):
    before, after = tiny_model(), tiny_model({"mask_position": "post_conv"})
    assert before.mask_processor.left_context_size == 8 == before.encoder.att_context_size[0]
    assert before.mask_processor.subsampling_factor == 8
    assert after.mask_processor.left_context_size == 8
    assert after.mask_processor.subsampling_factor == 1
    assert tiny_model({"masking.subsampling_factor": 4}).mask_processor.subsampling_factor == 4


class TestMaskingAfterTheConvolutions:
    """What NeMo's wrapper around the subsampling got wrong."""

    @pytest.fixture(scope="class")
    def model(self, tiny_model):
        return tiny_model({**DENSE, "mask_position": "post_conv"})

    def test_the_block_size_is_divided_once_however_often_the_file_is_restored(self, model, tmp_path):
        for generation in range(3):
            assert model.mask_processor.block_size == 2
            assert model.cfg.masking.block_size == 16
            assert model.cfg.quantizer.feat_in == 80 and model.cfg.loss.combine_time_steps == 8
            path = tmp_path / f"{generation}.nemo"
            model.save_to(str(path))
            model = EncDecDenoiseMaskedTokenPredModel.restore_from(str(path))

    @pytest.mark.parametrize(("saved", "block_size"), [(2, 2), (0, 5)])
    def test_a_file_with_a_divided_block_size_is_repaired_with_a_warning(
        self, tiny_config, warnings, saved, block_size
    ):
        """NeMo saves block_size 16 as 2, and after one restore as 0."""
        cfg = tiny_config({"mask_position": "post_conv", "nemo_version": "3.0.0"})
        cfg.masking.block_size = saved
        cfg.masking.feat_in = cfg.quantizer.feat_in = cfg.encoder.d_model
        cfg.loss.combine_time_steps = 1
        model = EncDecDenoiseMaskedTokenPredModel(cfg)
        assert model.mask_processor.block_size == block_size
        assert any(f"block_size is {saved}, already divided" in message for message in warnings)

    def test_streaming_sizes_are_those_of_the_subsampling_within(self, model, tiny_model):
        assert vars(model.encoder.streaming_cfg) == vars(tiny_model().encoder.streaming_cfg)

    def test_the_subsampling_is_frozen_and_everything_else_trains(self, model, audio):
        model.train()
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        assert all(p.requires_grad is False for p in model.encoder.pre_encode.pre_encode.parameters())
        loss_of(model, *audio).backward()
        assert all(p.grad is not None for name, p in model.named_parameters() if name not in frozen)

    def test_a_mask_embedding_that_is_not_frozen_trains(self, tiny_model, audio):
        model = tiny_model({**DENSE, "mask_position": "post_conv", "masking.freeze": False}).train()
        loss_of(model, *audio).backward()
        assert model.mask_processor.mask_embedding.grad.abs().sum() > 0

    def test_masking_is_off_again_after_each_forward(self, model, audio):
        model.eval()
        features, lengths = model.preprocessor(input_signal=audio[0], length=audio[1])
        clean, _ = model.encoder(audio_signal=features, length=lengths)
        model.forward(*audio, apply_mask=True)
        torch.testing.assert_close(model.encoder(audio_signal=features, length=lengths)[0], clean)
        handle = model.encoder.layers[1].register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.forward(*audio, apply_mask=True)
        handle.remove()
        torch.testing.assert_close(model.encoder(audio_signal=features, length=lengths)[0], clean)

    def test_all_weights_of_the_encoder_load_into_a_plain_encoder(self, model, tiny_config, audio):
        cfg = tiny_config().encoder
        plain = ConformerEncoder(**{key: value for key, value in cfg.items() if key != "_target_"}).eval()
        result = plain.load_state_dict(model.encoder.state_dict(), strict=True)
        assert result.missing_keys == result.unexpected_keys == []
        features, lengths = model.preprocessor(input_signal=audio[0], length=audio[1])
        expected, _ = model.eval().encoder(audio_signal=features, length=lengths)
        torch.testing.assert_close(plain(audio_signal=features, length=lengths)[0], expected)

    def test_it_starts_from_a_model_that_masks_before_the_convolutions(self, model, tiny_model):
        offline = tiny_model(seed=5)
        fresh = copy.deepcopy(model)
        missing = fresh.encoder.load_state_dict(offline.encoder.state_dict(), strict=False).missing_keys
        assert missing == []
        torch.testing.assert_close(
            fresh.encoder.pre_encode.pre_encode.out.weight, offline.encoder.pre_encode.out.weight
        )

    def test_targets_are_tokens_of_the_clean_speech(self, model, audio):
        model.eval()
        batch = noisy_batch(*audio)
        *_, tokens = model.forward(apply_mask=True, **model._signals(batch))
        *_, of_clean = model.forward(*audio)
        torch.testing.assert_close(tokens, of_clean)


@pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
@pytest.mark.parametrize("denoise", [True, False])
def test_a_model_survives_its_file_a_copy_and_a_pickle(tiny_model, audio, tmp_path, mask_position, denoise):
    model = tiny_model({"mask_position": mask_position, "context_presets": {"hall": [12, 0]}}, denoise=denoise).eval()
    path = str(tmp_path / "model.nemo")
    model.save_to(path)
    restored = type(model).restore_from(path)
    assert restored.training
    set_dynamic_context(restored, "hall")
    set_dynamic_context(model, "hall")
    expected = model.forward(*audio)
    for twin in (restored.eval(), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        for ours, theirs in zip(twin.forward(*audio), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert type(restored).__module__ == "nemo.collections.asr.models.ssl_models"


def test_state_dict_keys_are_nemos(tiny_model):
    keys = {name.split(".")[0] for name in tiny_model().state_dict()}
    assert keys == {"preprocessor", "quantizer", "mask_processor", "encoder", "decoder"}
    assert not [key for key in tiny_model().state_dict() if "context" in key or "count" in key]


def test_a_recipe_of_nemos_without_our_keys_builds_and_trains(tiny_config, audio):
    """NeMo's offline NEST recipe: no causal masking, unlimited context, none of this project's keys."""
    cfg = tiny_config({"encoder.att_context_size": [-1, -1], "encoder.causal_downsampling": False})
    with open_dict(cfg):
        for section, keys in {
            "masking": ["causal", "left_context_size", "causal_window", "max_mask_ratio"],
            "quantizer": ["normalize"],
        }.items():
            for key in keys:
                del cfg[section][key]
        del cfg["target_shift"], cfg["context_seed"]
        cfg.preprocessor.update(normalize="per_feature", pad_to=16)
        cfg.encoder.update(conv_norm_type="batch_norm", conv_context_size=None)
        cfg.masking.mask_prob = 0.15
    model = EncDecDenoiseMaskedTokenPredModel(OmegaConf.create(OmegaConf.to_container(cfg))).train()
    assert model.target_shift == 0 and not model.mask_processor.causal
    assert loss_of(model, *audio).isfinite()
    assert model.current_att_context == [-1, -1]


def test_both_classes_are_still_nemos_kin(tiny_model):
    assert isinstance(tiny_model(), EncDecMaskedTokenPredModel)
    assert not isinstance(tiny_model(denoise=False), EncDecDenoiseMaskedTokenPredModel)


class TestEvaluation:
    """Validation under every trained context."""

    @pytest.fixture(scope="class")
    def model(self, tiny_model):
        return tiny_model(DENSE).eval()

    def test_each_context_gets_its_own_loss_on_the_same_masks(self, model, audio, monkeypatch):
        seen = []
        encode = model._encode
        monkeypatch.setattr(model, "_encode", lambda *args: seen.append(encode(*args)) or seen[-1])
        result = model.inference_pass(noisy_batch(*audio))
        assert len(seen) == 3
        for _, _, masks in seen[1:]:
            torch.testing.assert_close(masks, seen[0][2])
        totals = result["val_totals"]
        assert [str(context) for context in totals.contexts] == ["[8, 0]", "[16, 0]", "[-1, 0]"]
        assert len(set(totals.losses.tolist())) == 3
        torch.testing.assert_close(result["val_loss"].double(), totals.losses.mean(), atol=1e-6, rtol=0)

    def test_a_contexts_loss_is_that_of_a_forward_under_it(self, model, audio):
        result = model.inference_pass(noisy_batch(*audio))["val_totals"]
        features = model._features(**model._signals(noisy_batch(*audio)))
        mask = model._evaluation_mask(features, 0, 0)
        for row, left in enumerate([8, 16, -1]):
            with dynamic_context(model, [left, 0]):
                encoded, lengths, masks = model._encode(features, True, None, mask)
            outputs, tokens = model.decoder(encoder_output=encoded), model._tokens(features, lengths)
            loss = model.loss(masks=masks, decoder_outputs=outputs, targets=tokens, decoder_lengths=lengths)
            torch.testing.assert_close(loss.double(), result.losses[row], atol=1e-6, rtol=1e-5)

    @pytest.mark.parametrize("mask_position", ["pre_conv", "post_conv"])
    def test_masks_are_the_same_in_every_run_and_differ_between_batches(self, tiny_model, audio, mask_position):
        model = tiny_model({**DENSE, "mask_position": mask_position}).eval()
        twin = tiny_model(
            {**DENSE, "mask_position": mask_position, "masking.causal": False, "masking.causal_window": "tail"}, seed=3
        ).eval()
        features = model._features(**model._signals(noisy_batch(*audio)))
        state = torch.get_rng_state()
        first = model._evaluation_mask(features, 0, 0)
        torch.manual_seed(17)
        assert torch.equal(first, model._evaluation_mask(features, 0, 0))
        assert torch.equal(first, twin._evaluation_mask(features, 0, 0))
        assert not torch.equal(first, model._evaluation_mask(features, 1, 0))
        assert not torch.equal(first, model._evaluation_mask(features, 0, 1))
        torch.set_rng_state(state)
        model.inference_pass(noisy_batch(*audio))
        assert torch.equal(torch.get_rng_state(), state)

    def test_no_context_has_a_blind_target(self, model, audio):
        """Masks are opened for the smallest trained left context, 8 encoder frames."""
        features = model._features(**model._signals(noisy_batch(*audio)))
        for batch_idx in range(20):
            mask = model._evaluation_mask(features, batch_idx, 0)
            for utterance, length in zip(mask, features.noisy_lengths, strict=True):
                hidden = [bool(group.all()) for group in utterance[: length // 8 * 8].view(-1, 8)]
                assert not hidden[0]
                assert all(not all(hidden[max(0, k - 8) : k + 1]) for k in range(1, len(hidden)))

    def test_context_and_mode_are_restored_after_an_error(self, model, audio):
        before = list(model.encoder.att_context_size)
        handle = model.decoder.register_forward_pre_hook(lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            model.inference_pass(noisy_batch(*audio))
        handle.remove()
        assert model.encoder.att_context_size == before

    def test_a_pin_does_not_narrow_it_and_a_list_does(self, tiny_model, audio):
        model = tiny_model(DENSE).eval()
        set_dynamic_context(model, [16, 0])
        assert len(model.inference_pass(noisy_batch(*audio))["val_totals"].contexts) == 3
        model.validation_contexts = [[8, 0], [24, 0]]
        totals = model.inference_pass(noisy_batch(*audio))["val_totals"]
        assert [context.label for context in totals.contexts] == ["8_0", "24_0"]
        with pytest.raises(ValueError, match="validation_contexts"):
            model.validation_contexts = [[8, 0, 1]]
        assert len(model.validation_contexts) == 2
        model.validation_contexts = None
        assert len(model.validation_contexts) == 3

    def test_epochs_are_summed_by_targets_and_named_by_context(self, model, audio):
        signal, lengths = audio
        batches = [noisy_batch(signal, lengths), noisy_batch(signal[:, :20000], lengths.clamp(max=20000))]
        outputs = [model.inference_pass(batch, index) for index, batch in enumerate(batches)]
        logs = model.multi_validation_epoch_end(outputs)["log"]
        assert set(logs) == {"val_loss"} | {
            f"val_{figure}_{context}" for figure in ("loss", "acc") for context in ("8_0", "16_0", "-1_0")
        }
        sums = outputs[0]["val_totals"].sums + outputs[1]["val_totals"].sums
        torch.testing.assert_close(logs["val_loss_8_0"].double(), sums[0, 0] / sums[0, 2], atol=1e-6, rtol=0)
        assert outputs[0]["val_totals"].sums[0, 2] != outputs[1]["val_totals"].sums[0, 2]


def test_a_streaming_model_starts_from_an_offline_one_and_says_what_fitted(tiny_model, tmp_path, caplog):
    offline = {
        "encoder.causal_downsampling": False,
        "encoder.conv_norm_type": "batch_norm",
        "encoder.conv_context_size": None,
        "encoder.att_context_size": [-1, -1],
        "masking.causal": False,
        "num_classes": 16,
    }
    other = tiny_model(offline, seed=1)
    other.save_to(str(tmp_path / "offline.nemo"))
    model = tiny_model(seed=2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logger = logging._logger
    logger.addHandler(caplog.handler)
    try:
        model.maybe_init_from_pretrained_checkpoint(
            OmegaConf.create({"init_from_nemo_model": str(tmp_path / "offline.nemo")})
        )
    finally:
        logger.removeHandler(caplog.handler)

    theirs, ours = other.state_dict(), model.state_dict()
    misfits = [name for name in ours if name in theirs and ours[name].shape != theirs[name].shape]
    assert misfits
    for name, value in ours.items():
        loaded = name in theirs and name not in misfits
        assert torch.equal(value, theirs[name] if loaded else before[name]), name
    text = caplog.text
    assert f"Loaded {len(ours) - len(misfits)} of {len(ours)} tensors" in text
    assert all(name.split(".")[-1] in text for name in misfits)
    assert "not in this model: encoder.layers.*.conv.batch_norm.running_mean (2 of them)" in text
