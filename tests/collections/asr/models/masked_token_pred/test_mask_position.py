"""Masking after the convolutions: what NeMo's wrapper around the subsampling got wrong."""

import copy

import pytest
import torch
from pretraining_batches import DENSE, loss_of, noisy_batch

from nemo.collections.asr.models.ssl_models import EncDecDenoiseMaskedTokenPredModel
from nemo.collections.asr.modules.conformer_encoder import ConformerEncoder


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
        assert any(f"block_size is {saved}. It was divided" in message for message in warnings)

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
        *_, tokens = model.forward(apply_mask=True, **model._arguments(batch))
        *_, of_clean = model.forward(*audio)
        torch.testing.assert_close(tokens, of_clean)
