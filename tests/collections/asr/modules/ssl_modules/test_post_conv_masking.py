"""The wrapper around an encoder's subsampling: it masks, and is otherwise the subsampling."""

import copy
import pickle

import pytest
import torch

from nemo.collections.asr.modules import ConvFeatureMaksingWrapper, RandomBlockMasking
from nemo.collections.asr.modules.ssl_modules import masking, post_conv_masking
from nemo.collections.asr.parts.submodules.subsampling import ConvSubsampling

FEATURES = 3


def causal(window="tail", **settings):
    return RandomBlockMasking(**{"feat_in": FEATURES, "causal": True, "causal_window": window, **settings})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_nemo_s_name_in_nemo_s_module_is_this_class():
    assert masking.ConvFeatureMaksingWrapper is ConvFeatureMaksingWrapper
    assert ConvFeatureMaksingWrapper.__mro__[1:3] == (
        post_conv_masking.PostConvMasking,
        masking.NemoConvFeatureMaksingWrapper,
    )


class Subsampling(torch.nn.Module):
    """A subsampling by 4 with the methods that an encoder looks for."""

    is_causal = True

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Sequential(torch.nn.Conv1d(5, FEATURES, 4, stride=4))

    def get_sampling_frames(self):
        return 4

    def get_streaming_cache_size(self):
        return 0

    def forward(self, x, lengths):
        return self.conv(x.transpose(1, 2)).transpose(1, 2), lengths // 4


class TwoArguments(torch.nn.Module):
    """A masking module of another make, with NeMo's two arguments."""

    def forward(self, input_feats, input_lengths):
        return input_feats * 0, torch.ones_like(input_feats)


class TestWrapper:
    LENGTHS = torch.tensor([80, 60])

    @pytest.fixture
    def signal(self):
        return torch.randn(2, 80, 5, generator=generator())

    @pytest.fixture
    def wrapper(self):
        masking = causal(mask_prob=1.0, block_size=2, allow_overlap=True, freeze=False, left_context_size=9)
        return ConvFeatureMaksingWrapper(Subsampling(), masking)

    def masked_frames(self, wrapper):
        return wrapper.get_current_mask()[:, 0].sum(1).tolist()

    def test_without_masking_it_is_the_subsampling(self, wrapper, signal):
        expected, expected_lengths = wrapper.pre_encode(x=signal, lengths=self.LENGTHS)
        feats, lengths = wrapper(x=signal, lengths=self.LENGTHS)
        assert torch.equal(feats, expected) and torch.equal(lengths, expected_lengths)
        assert wrapper.get_current_mask().shape == (2, FEATURES, 20) and not wrapper.get_current_mask().any()
        assert torch.equal(wrapper.get_current_feat(), expected)

    def test_masking_replaces_features_and_keeps_the_clean_ones(self, wrapper, signal):
        clean, _ = wrapper.pre_encode(x=signal, lengths=self.LENGTHS)
        wrapper.set_masking_enabled(True)
        feats, lengths = wrapper(x=signal.requires_grad_(), lengths=self.LENGTHS)
        mask = wrapper.get_current_mask().transpose(1, 2)
        assert lengths.tolist() == [20, 15] and self.masked_frames(wrapper) == [9, 9]
        assert torch.equal(feats, torch.where(mask > 0, wrapper.masking.mask_embedding, clean))
        assert torch.equal(wrapper.get_current_feat(), clean) and not wrapper.get_current_feat().requires_grad

    def test_the_effective_context_reaches_the_masking_and_holds_until_the_next_call(self, wrapper, signal):
        wrapper.set_masking_enabled(True, effective_left_context=3)
        for _ in range(2):
            wrapper(x=signal, lengths=self.LENGTHS)
            assert self.masked_frames(wrapper) == [3, 3]
        wrapper.set_masking_enabled(True)
        wrapper(x=signal, lengths=self.LENGTHS)
        assert self.masked_frames(wrapper) == [9, 9]
        wrapper.set_masking_enabled(False)
        wrapper(x=signal, lengths=self.LENGTHS)
        assert self.masked_frames(wrapper) == [0, 0]

    def test_a_masking_module_of_another_make_gets_its_two_arguments(self, signal):
        wrapper = ConvFeatureMaksingWrapper(Subsampling(), TwoArguments())
        wrapper.set_masking_enabled(True, effective_left_context=3)
        feats, _ = wrapper(x=signal, lengths=self.LENGTHS)
        assert not feats.any() and self.masked_frames(wrapper) == [20, 20]

    def test_a_ready_mask_is_written_as_it_is(self, wrapper, signal):
        mask = torch.rand(2, 20, generator=generator()) < 0.5
        before = torch.get_rng_state()
        wrapper.set_masking_enabled(True, effective_left_context=3, mask=mask)
        feats, _ = wrapper(x=signal, lengths=self.LENGTHS)
        assert torch.equal(wrapper.get_current_mask()[:, 0] > 0, mask)
        assert torch.equal(feats[mask], wrapper.masking.mask_embedding.expand(int(mask.sum()), -1))
        assert torch.equal(before, torch.get_rng_state())

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (dict(apply_mask=True, effective_left_context=-2), ValueError, "effective_left_context must be .* got -2"),
            (
                dict(apply_mask=True, effective_left_context=1.5),
                TypeError,
                "effective_left_context must be .* got 1.5",
            ),
            (
                dict(apply_mask=False, mask=torch.ones(2, 20) > 0),
                ValueError,
                r"mask must be None with apply_mask=False; got .* \[2, 20\]",
            ),
            (
                dict(apply_mask=True, mask=torch.ones(2, 20)),
                TypeError,
                r"mask must be a bool tensor \[B, S\]; got torch.float32",
            ),
            (
                dict(apply_mask=True, mask=torch.ones(20) > 0),
                ValueError,
                r"mask must be a bool tensor \[B, S\]; got \[20\]",
            ),
        ],
    )
    def test_a_refused_setting_changes_nothing(self, wrapper, signal, arguments, error, message):
        wrapper.set_masking_enabled(True, effective_left_context=3)
        with pytest.raises(error, match=message):
            wrapper.set_masking_enabled(**arguments)
        wrapper(x=signal, lengths=self.LENGTHS)
        assert self.masked_frames(wrapper) == [3, 3]

    def test_a_ready_mask_must_fit_and_there_must_be_a_way_to_write_it(self, wrapper, signal):
        wrapper.set_masking_enabled(True, mask=torch.ones(2, 21) > 0)
        with pytest.raises(ValueError, match=r"mask must be \[B, S\] = \[2, 20\] .* got \[2, 21\]"):
            wrapper(x=signal, lengths=self.LENGTHS)
        with pytest.raises(TypeError, match="mask must be None for a masking module without write.* got TwoArguments"):
            ConvFeatureMaksingWrapper(Subsampling(), TwoArguments()).set_masking_enabled(
                True, mask=torch.ones(2, 2) > 0
            )

    def test_the_subsampling_is_frozen_and_the_embedding_trains(self, wrapper, signal):
        wrapper.set_masking_enabled(True)
        feats, _ = wrapper(x=signal, lengths=self.LENGTHS)
        feats.sum().backward()
        trained = {name for name, p in wrapper.named_parameters() if p.requires_grad}
        assert trained == {"masking.mask_embedding"}
        assert torch.equal(wrapper.masking.mask_embedding.grad, torch.full((FEATURES,), 18.0))

    def test_what_callers_read_of_the_subsampling_is_handed_on(self, wrapper):
        assert wrapper.get_sampling_frames() == 4 and wrapper.get_streaming_cache_size() == 0
        assert wrapper.is_causal is True and wrapper.conv is wrapper.pre_encode.conv
        assert not hasattr(wrapper, "change_subsampling_conv_chunking_factor")
        with pytest.raises(AttributeError, match="no_such_thing"):
            wrapper.no_such_thing  # noqa: B018

    def test_it_hands_on_all_that_an_encoder_asks_of_nemo_s_subsampling(self):
        inner = ConvSubsampling("dw_striding", 8, 16, 12, 8, is_causal=True)
        wrapper = ConvFeatureMaksingWrapper(inner, RandomBlockMasking(12))
        assert wrapper.get_sampling_frames() == inner.get_sampling_frames() == [1, 8]
        assert wrapper.get_streaming_cache_size() == inner.get_streaming_cache_size() == [0, 9]
        wrapper.change_subsampling_conv_chunking_factor(2)
        assert inner.subsampling_conv_chunking_factor == 2
        assert wrapper._left_padding == inner._left_padding and wrapper.is_causal is True

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda wrapper: pickle.loads(pickle.dumps(wrapper))])
    def test_copies_are_wrappers_of_their_own(self, wrapper, signal, copied):
        wrapper.set_masking_enabled(True, effective_left_context=3)
        wrapper(x=signal, lengths=self.LENGTHS)
        other = copied(wrapper)
        assert type(other) is ConvFeatureMaksingWrapper and other.pre_encode is not wrapper.pre_encode
        other.set_masking_enabled(False)
        wrapper(x=signal, lengths=self.LENGTHS)
        assert self.masked_frames(wrapper) == [3, 3] and other.get_sampling_frames() == 4

    def test_a_copy_is_a_wrapper_even_where_the_subsampling_says_how_to_copy_itself(self):
        class Copying(Subsampling):
            def __deepcopy__(self, memo):
                return Subsampling()

        other = copy.deepcopy(ConvFeatureMaksingWrapper(Copying(), causal()))
        assert type(other) is ConvFeatureMaksingWrapper and type(other.pre_encode) is Subsampling

    def test_its_state_dict_has_nemo_s_keys_and_loads(self, wrapper):
        state = wrapper.state_dict()
        assert set(state) == {"pre_encode.conv.0.weight", "pre_encode.conv.0.bias", "masking.mask_embedding"}
        other = ConvFeatureMaksingWrapper(Subsampling(), causal())
        other.load_state_dict(state)
        assert all(torch.equal(state[key], value) for key, value in other.state_dict().items())

    def test_it_loads_a_plain_encoder_s_subsampling(self, wrapper):
        plain = torch.nn.ModuleDict({"pre_encode": Subsampling(), "layer": torch.nn.Linear(2, 2)})
        encoder = torch.nn.ModuleDict({"pre_encode": wrapper, "layer": torch.nn.Linear(2, 2)})
        embedding = wrapper.masking.mask_embedding.clone()
        state = plain.state_dict()
        encoder.load_state_dict(state)
        assert torch.equal(wrapper.pre_encode.conv[0].weight, plain["pre_encode"].conv[0].weight)
        assert torch.equal(wrapper.masking.mask_embedding, embedding)
        assert set(state) == set(plain.state_dict()), "the caller's dict must stay as it was"

    def test_strict_loading_still_refuses_keys_that_belong_to_nothing(self, wrapper):
        with pytest.raises(RuntimeError, match="conv.0.weight"):
            wrapper.load_state_dict({"other.weight": torch.zeros(1)})
        with pytest.raises(RuntimeError, match="stray.weight"):
            wrapper.load_state_dict({**wrapper.state_dict(), "stray.weight": torch.zeros(1)})
