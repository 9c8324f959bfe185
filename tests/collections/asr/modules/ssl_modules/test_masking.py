"""The masking module: what it promises to a model."""

import copy
import dataclasses
import inspect
import math
import shutil

import mask_reference as reference
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nemo
from nemo.collections.asr.modules import RandomBlockMasking
from nemo.collections.asr.modules.ssl_modules.mask_audit import audit_masks
from nemo.collections.asr.modules.ssl_modules.mask_recipe import MaskRecipe
from nemo.collections.asr.modules.ssl_modules.masking import NemoRandomBlockMasking
from nemo.collections.asr.modules.ssl_modules.masking_ways import CAUSAL_WINDOWS as WINDOWS
from nemo.collections.asr.modules.ssl_modules.masking_ways import MASKING_WAYS, sample_mask

FEATURES = 3

properties = settings(deadline=None, max_examples=100, derandomize=True)
needs_cuda = pytest.mark.gpu


def features(batch, time, **options):
    return torch.randn(batch, FEATURES, time, generator=torch.Generator().manual_seed(0)).to(**options)


def causal(window="tail", **settings):
    return RandomBlockMasking(**{"feat_in": FEATURES, "causal": True, "causal_window": window, **settings})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@st.composite
def cases(draw):
    """A causal masking module, lengths, the time axis, and a current frame or None."""
    time = draw(st.integers(0, 90))
    lengths = torch.tensor(draw(st.lists(st.integers(0, time), min_size=1, max_size=5)))
    module = causal(
        draw(st.sampled_from(WINDOWS)),
        mask_prob=draw(st.integers(1, 100)) / 100,
        block_size=draw(st.integers(1, 30)),
        allow_overlap=draw(st.booleans()),
        left_context_size=draw(st.one_of(st.just(-1), st.integers(0, 12))),
        subsampling_factor=draw(st.integers(1, 9)),
    )
    module.train(draw(st.booleans()))
    return module, lengths, time, draw(st.one_of(st.none(), st.integers(0, 100)))


class TestCausalMasking:
    @properties
    @given(cases(), st.integers(0, 2**31))
    def test_nothing_is_masked_outside_the_window_or_past_the_length(self, case, seed):
        module, lengths, time, current = case
        sample = module.sample_causal(lengths, time, current_frame=current, generator=generator(seed))
        audit = audit_masks(sample.mask, lengths, -1, 1, window=sample.window)
        assert audit.frames_outside.sum() == 0
        left, factor = module.left_context_size, module.subsampling_factor
        for index, length in enumerate(lengths.tolist()):
            start = 0 if sample.window.start is None else int(sample.window.start[index])
            frames = int(sample.window.width[index])
            width = -1 if left == -1 or (module.causal_window == "sliding" and left > 0) else left * factor
            expected = reference.tail_window(length, width, current)
            assert start + frames <= length and frames == expected[1]
            if module.causal_window != "random" or current is not None or not module.training:
                assert start == expected[0]

    @properties
    @given(cases(), st.integers(0, 2**31))
    def test_sliding_leaves_no_wholly_masked_frame_blind(self, case, seed):
        module, lengths, time, current = case
        module.causal_window = "sliding"
        mask = module.sample(lengths, time, current_frame=current, generator=generator(seed))
        for row, length in zip(mask.tolist(), lengths.tolist(), strict=True):
            whole = reference.wholly_masked(row, length, module.subsampling_factor)
            assert reference.blind(whole, module.left_context_size) == []

    def test_sliding_masks_as_much_as_no_limit_does(self):
        lengths = torch.full((4000,), 400)
        module = causal("sliding", mask_prob=0.02, block_size=16, allow_overlap=True, subsampling_factor=8)
        unlimited = RandomBlockMasking(FEATURES, mask_prob=0.02, block_size=16, allow_overlap=True)
        rate = module.sample(lengths, 400, effective_left_context=20, generator=generator()).float().mean(1)
        free = unlimited.sample(lengths, 400, generator=generator(1)).float().mean(1)
        # Only the first encoder frame is opened with any frequency: at most one in fifty, and that is masked seldom.
        error = math.sqrt((rate.var() + free.var()) / 4000)
        assert -0.02 - 4 * error < rate.mean() - free.mean() < 4 * error

    def test_the_share_of_masked_frames_is_that_of_the_settings(self):
        lengths = torch.full((2000,), 960)
        module = causal("tail", mask_prob=0.5, block_size=48, left_context_size=60, subsampling_factor=8)
        masked = module.sample(lengths, 960, generator=generator()).sum(1)
        assert masked.unique().tolist() == [math.ceil(480 * 0.5 / 48) * 48]

    def test_an_effective_left_context_takes_the_place_of_the_module_s_own(self):
        module = causal(mask_prob=1.0, block_size=4, allow_overlap=True, left_context_size=3, subsampling_factor=8)
        lengths = torch.tensor([64, 40])
        counts = {
            left: module.sample(lengths, 64, effective_left_context=left).sum(1).tolist() for left in (None, 2, 0)
        }
        assert counts == {None: [24, 24], 2: [16, 16], 0: [0, 0]}
        assert module.sample(lengths, 64, effective_left_context=-1).sum(1).tolist() == [64, 40]

    def test_a_left_context_set_later_is_the_one_that_counts(self):
        module = causal(mask_prob=1.0, block_size=4, allow_overlap=True)
        module.left_context_size, module.subsampling_factor = 5, 2
        assert module.sample(torch.tensor([64]), 64).sum() == 10

    @pytest.mark.parametrize("window", WINDOWS)
    @pytest.mark.parametrize("overlap", [False, True])
    def test_a_left_context_of_0_masks_nothing(self, window, overlap):
        module = causal(window, mask_prob=0.6, block_size=5, allow_overlap=overlap, subsampling_factor=8)
        lengths = torch.arange(65)
        assert module.sample(lengths, 64).any()
        assert not module.sample(lengths, 64, effective_left_context=0).any()
        assert not module.sample(lengths, 64, effective_left_context=0, current_frame=40).any()

    @pytest.mark.parametrize("window", WINDOWS)
    @pytest.mark.parametrize("overlap", [False, True])
    def test_short_utterances_are_masked_in_part(self, window, overlap):
        module = causal(window, mask_prob=0.5, block_size=48, allow_overlap=overlap, left_context_size=20)
        lengths = torch.tensor([0, 1, 2, 5, 19])
        _, masks = module(features(5, 19), lengths)
        masked = masks[:, 0].sum(1)
        if window == "sliding":
            assert masks[:, 0, 0].sum() == 0, "the first encoder frame, here one frame, is always visible"
            assert (torch.tensor([0, 0, 1, 4, 15]) - masked <= 1).all() and masked[3:].min() > 0
        else:
            assert masked.tolist() == [0, 0, 1, 4, 15]

    def test_random_acts_as_tail_in_evaluation_and_with_a_current_frame(self):
        module = causal("random", mask_prob=1.0, block_size=4, allow_overlap=True, left_context_size=10)
        lengths = torch.full((2000,), 60)
        assert module.training, "a frozen embedding must not put a new module in evaluation mode"
        assert module.sample(lengths, 60, generator=generator()).any(0).all()
        assert module.sample(lengths, 60, current_frame=30).any(0).nonzero().flatten().tolist() == list(range(20, 30))
        assert module.eval().sample(lengths, 60).any(0).nonzero().flatten().tolist() == list(range(50, 60))

    def test_the_recipe_is_that_of_the_attributes_as_they_are_now(self):
        module = RandomBlockMasking(FEATURES, mask_prob=0.3, block_size=5, allow_overlap=True, max_mask_ratio=0.7)
        assert module.recipe == MaskRecipe(0.3, 5, True, 0.7)
        module.mask_prob, module.block_size = 1.0, 4
        assert module.recipe == MaskRecipe(1.0, 4, True, 0.7)
        assert module.sample(torch.tensor([40]), 40).all()

    @pytest.mark.parametrize("name", MASKING_WAYS)
    def test_a_module_built_in_a_way_samples_the_masks_of_that_way(self, name):
        way, recipe = MASKING_WAYS[name], MaskRecipe(mask_prob=0.3, block_size=12)
        module = RandomBlockMasking(
            FEATURES,
            **{**dataclasses.asdict(recipe), "subsampling_factor": 8, "left_context_size": 5, **way.settings()},
        )
        lengths = torch.tensor([200, 150, 7])
        expected = sample_mask(recipe, name, lengths, 200, left=5, subsampling_factor=8, generator=generator(3))
        assert torch.equal(module.sample(lengths, 200, generator=generator(3)), expected.mask)
        assert module.way(frames_per_encoder_frame=8) == way

    def test_where_frames_are_encoder_frames_literal_and_tail_are_one(self):
        assert causal("tail", subsampling_factor=1).way(frames_per_encoder_frame=1) == MASKING_WAYS["tail"]

    def test_forward_causal_is_causal_whatever_the_module_says(self):
        module = RandomBlockMasking(FEATURES, mask_prob=1.0, block_size=4, allow_overlap=True, left_context_size=7)
        _, masks = module.forward_causal(features(1, 40), torch.tensor([30]))
        assert masks[0, 0].nonzero().flatten().tolist() == list(range(23, 30))


class TestWhatIsWritten:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    @pytest.mark.parametrize("window", [None, *WINDOWS])
    def test_dtype_shape_and_values(self, window, dtype):
        module = RandomBlockMasking(
            FEATURES, 0.5, 8, causal=window is not None, causal_window=window or "tail", left_context_size=40
        )
        feats, lengths = features(4, 50, dtype=dtype), torch.tensor([50, 41, 8, 0])
        masked, masks = module(feats, lengths)
        assert masked.shape == masks.shape == feats.shape
        assert masked.dtype == masks.dtype == dtype
        assert set(masks.unique().tolist()) == {0.0, 1.0}
        assert (masks == masks[:, :1]).all()
        embedding = module.mask_embedding.to(dtype).view(1, -1, 1).expand_as(feats)
        assert torch.equal(masked, torch.where(masks > 0, embedding, feats))

    @pytest.mark.parametrize("window", [None, *WINDOWS])
    def test_infinite_and_undefined_features_do_not_leave_their_place(self, window):
        module = RandomBlockMasking(FEATURES, 0.5, 8, causal=window is not None, causal_window=window or "tail")
        feats = torch.full((2, FEATURES, 64), math.nan)
        masked, masks = module(feats, torch.tensor([64, 64]))
        assert torch.equal(masked.isnan(), masks == 0)

    def test_gradients_reach_the_features_and_an_unfrozen_embedding(self):
        module = causal("sliding", mask_prob=0.5, block_size=8, freeze=False, left_context_size=4)
        feats = features(3, 60).requires_grad_()
        masked, masks = module(feats, torch.tensor([60, 50, 20]))
        masked.sum().backward()
        assert torch.equal(feats.grad, 1 - masks)
        assert torch.equal(module.mask_embedding.grad, masks.sum((0, 2)))
        assert masks.sum() > 0

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_autocast_changes_nothing(self, dtype):
        module = causal("sliding", mask_prob=0.5, block_size=8, left_context_size=4)
        feats, lengths = features(3, 60), torch.tensor([60, 50, 20])
        torch.manual_seed(0)
        plain = module(feats, lengths)
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=dtype):
            autocast = module(feats, lengths)
        assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(plain, autocast, strict=True))

    def test_state_dict_has_the_keys_of_nemo_s_class(self):
        ours, theirs = RandomBlockMasking(FEATURES, causal=True), NemoRandomBlockMasking(FEATURES)
        assert list(ours.state_dict()) == list(theirs.state_dict()) == ["mask_embedding"]
        ours.load_state_dict(theirs.state_dict())
        assert torch.equal(ours.mask_embedding, theirs.mask_embedding)

    def test_a_sample_written_is_a_forward(self):
        module = causal("random", mask_prob=0.5, block_size=8, left_context_size=30)
        feats, lengths = features(3, 60), torch.tensor([60, 50, 20])
        torch.manual_seed(3)
        forward = module(feats, lengths)
        torch.manual_seed(3)
        written = module.write(feats, module.sample(lengths, 60))
        assert all(torch.equal(a, b) for a, b in zip(forward, written, strict=True))

    @pytest.mark.parametrize("window", [None, *WINDOWS])
    def test_a_generator_of_its_own_leaves_torch_s_state_alone(self, window):
        module = RandomBlockMasking(FEATURES, 0.5, 8, causal=window is not None, causal_window=window or "tail")
        lengths, before = torch.tensor([60, 50]), torch.get_rng_state()
        masks = [module.sample(lengths, 60, generator=generator(seed)) for seed in (1, 1, 2)]
        assert torch.equal(masks[0], masks[1]) and not torch.equal(masks[0], masks[2])
        assert torch.equal(before, torch.get_rng_state())


@pytest.mark.skipif(nemo.__version__.startswith("2."), reason="NeMo 2 samples in another way")
class TestNonCausalMaskingIsNemoS:
    """Two samples of 12000 utterances of three lengths are compared by 401 numbers for each length: the masked share,
    how many runs there are of each length, and how often each frame is masked.

    A difference of 5 standard errors between equal distributions has a probability of 6e-7, so a false alarm among the
    1203 comparisons of a case has one below 1e-3. The seeds are fixed, and so is the outcome.
    """

    UTTERANCES, TIME, STANDARD_ERRORS = 12_000, 200, 5.0
    RECIPES = {
        "overlap": dict(mask_prob=0.02, block_size=12, allow_overlap=True),
        "separate": dict(mask_prob=0.4, block_size=12),
        "sparse": dict(mask_prob=0.1, block_size=12),
        "shrunken": dict(mask_prob=0.75, block_size=48),
        "single frames": dict(mask_prob=1.0, block_size=2),
    }

    def masks(self, module, seed):
        torch.manual_seed(seed)
        lengths = torch.tensor([200, 151, 60]).repeat_interleave(self.UTTERANCES // 3)
        _, masks = module(torch.zeros(self.UTTERANCES, FEATURES, 1).expand(-1, -1, self.TIME), lengths)
        return masks[:, 0] > 0

    def statistics(self, mask):
        """Per utterance: masked share, number of runs of each length, mask at each frame; by length of utterance."""
        first = mask & ~torch.nn.functional.pad(mask, (1, 0))[:, :-1]
        run = (first.cumsum(1) * mask).long()
        sizes = torch.zeros(len(mask), self.TIME + 1).scatter_add_(1, run, mask.float())[:, 1:]
        histogram = torch.zeros(len(mask), self.TIME + 1).scatter_add_(1, sizes.long(), torch.ones_like(sizes))[:, 1:]
        everything = torch.cat([mask.float().mean(1, keepdim=True), histogram, mask.float()], dim=1)
        return everything.double().unflatten(0, (3, -1))

    def differences(self, ours, theirs):
        """Difference of the means in standard errors, for each statistic."""
        a, b = self.statistics(ours), self.statistics(theirs)
        error = ((a.var(1) + b.var(1)) / a.shape[1]).sqrt()
        # A statistic that never varies must be equal.
        return ((a.mean(1) - b.mean(1)).abs() / error.clamp_min(1e-9)).flatten()

    @pytest.mark.slow
    @pytest.mark.parametrize("recipe", RECIPES)
    def test_share_run_lengths_and_positions_agree(self, recipe):
        ours = self.masks(RandomBlockMasking(FEATURES, **self.RECIPES[recipe]), 1)
        theirs = self.masks(NemoRandomBlockMasking(FEATURES, **self.RECIPES[recipe]), 2)
        assert theirs.any()
        assert self.differences(ours, theirs).max() < self.STANDARD_ERRORS

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("recipe", "change"),
        [("overlap", dict(mask_prob=0.022)), ("overlap", dict(block_size=13)), ("separate", dict(mask_prob=0.45))],
    )
    def test_the_comparison_notices_another_distribution(self, recipe, change):
        ours = self.masks(RandomBlockMasking(FEATURES, **{**self.RECIPES[recipe], **change}), 1)
        theirs = self.masks(NemoRandomBlockMasking(FEATURES, **self.RECIPES[recipe]), 2)
        assert self.differences(ours, theirs).max() > self.STANDARD_ERRORS

    @pytest.mark.parametrize("block_size", [1, 2, 7, 15, 48])
    @pytest.mark.parametrize("mask_prob", [0.01, 0.3, 0.5, 0.7, 1.0])
    def test_without_overlap_every_length_has_exactly_as_many_masked_frames(self, mask_prob, block_size):
        # At 50 frames, 0.3 and 15, single precision asks for a block more than there is room for.
        for time in (50, 130):
            lengths, feats = torch.arange(time + 1), torch.zeros(time + 1, 1, time)
            counts = [
                module(feats, lengths)[1].sum((1, 2))
                for module in (cls(1, mask_prob, block_size) for cls in (RandomBlockMasking, NemoRandomBlockMasking))
            ]
            assert torch.equal(*counts)

    def test_the_causal_arguments_are_ignored(self):
        module = RandomBlockMasking(FEATURES, 0.5, 8, left_context_size=1)
        feats, lengths = features(2, 60), torch.tensor([60, 50])
        torch.manual_seed(0)
        plain = module(feats, lengths)
        torch.manual_seed(0)
        ignored = module(feats, lengths, current_frame=3, effective_left_context=0)
        assert all(torch.equal(a, b) for a, b in zip(plain, ignored, strict=True))


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            (dict(mask_prob=1.5), ValueError, "mask_prob must be a number from 0 to 1; got 1.5"),
            (dict(mask_prob=-0.1), ValueError, r"mask_prob must be .* got -0.1"),
            (dict(mask_prob=math.nan), ValueError, r"mask_prob must be .* got nan"),
            (dict(mask_prob="0.5"), TypeError, r"mask_prob must be .* got '0.5' of type str"),
            (dict(max_mask_ratio=2), ValueError, r"max_mask_ratio must be .* got 2"),
            (dict(block_size=0), ValueError, "block_size must be a whole number of frames >= 1; got 0"),
            (dict(block_size=8.0), TypeError, "block_size must be .* got 8.0 of type float"),
            (dict(allow_overlap="no"), TypeError, "allow_overlap must be True or False; got 'no'"),
            (dict(subsampling_factor=0), ValueError, "subsampling_factor must be a whole number >= 1; got 0"),
            (dict(subsampling_factor=None), TypeError, "subsampling_factor must be .* got None"),
            (dict(left_context_size=-2), ValueError, "left_context_size must be .* -1 for no limit; got -2"),
            (dict(left_context_size=True), TypeError, "left_context_size must be .* got True of type bool"),
            (dict(left_context_size=80.0), TypeError, "left_context_size must be .* got 80.0 of type float"),
            (
                dict(causal_window="head"),
                ValueError,
                "causal_window must be one of 'tail', 'random', 'sliding'; got 'h",
            ),
        ],
    )
    def test_a_setting_is_named_with_its_value_and_what_is_allowed(self, settings, error, message):
        before = torch.get_rng_state()
        with pytest.raises(error, match=message):
            RandomBlockMasking(**{"feat_in": FEATURES, "causal": True, **settings})
        assert torch.equal(before, torch.get_rng_state())

    @pytest.mark.parametrize(
        ("call", "error", "message"),
        [
            (dict(effective_left_context=-2), ValueError, "effective_left_context must be .* got -2"),
            (dict(effective_left_context=False), TypeError, "effective_left_context must be .* got False"),
            (dict(effective_left_context=8.0), TypeError, "effective_left_context must be .* got 8.0"),
            (dict(current_frame=-1), ValueError, "current_frame must be .* got -1"),
            (dict(current_frame=1.0), TypeError, "current_frame must be .* got 1.0 of type float"),
            (dict(current_frame=True), TypeError, "current_frame must be .* got True"),
            (dict(current_frame=torch.tensor(4)), ValueError, r"current_frame must be \[B\] = \[2\]; got \[\]"),
            (dict(current_frame=torch.tensor([[4, 4]])), ValueError, r"current_frame must be .* got \[1, 2\]"),
            (dict(current_frame=torch.tensor([4])), ValueError, r"current_frame must be .* got \[1\]"),
            (dict(current_frame=torch.tensor([4.0, 4.0])), TypeError, "current_frame must be .* got torch.float32"),
            (dict(current_frame=torch.tensor([4, -3])), ValueError, "current_frame must be >= 0 .* got -3"),
            (dict(input_lengths=torch.tensor([60, 61])), ValueError, "input_lengths must be .* T = 60 frames; got 61"),
            (dict(input_lengths=torch.tensor([60, -1])), ValueError, "input_lengths must be .* got -1"),
            (dict(input_lengths=torch.tensor([60])), ValueError, r"input_lengths must be \[B\] = \[2\]; got \[1\]"),
            (dict(input_lengths=torch.tensor([6.0, 6.0])), TypeError, "input_lengths must be .* got torch.float32"),
            (dict(input_lengths=[60, 60]), TypeError, "input_lengths must be a tensor .* got list"),
            (dict(input_feats=torch.zeros(2, 60)), ValueError, r"input_feats must be \[B, D, T\] .* got \[2, 60\]"),
            (dict(input_feats=torch.zeros(2, 5, 60)), ValueError, "input_feats must be .* D = 3; got .*5"),
        ],
    )
    @pytest.mark.parametrize("window", WINDOWS)
    def test_an_argument_is_named_and_a_refused_call_changes_nothing(self, window, call, error, message):
        module = causal(window, left_context_size=4)
        state, random_state = copy.deepcopy(module.__dict__), torch.get_rng_state()
        arguments = dict(input_feats=features(2, 60), input_lengths=torch.tensor([60, 50]))
        with pytest.raises(error, match=message):
            module(**{**arguments, **call})
        assert str(state) == str(module.__dict__)
        assert torch.equal(random_state, torch.get_rng_state())

    @pytest.mark.parametrize(
        ("name", "value", "error"),
        [
            ("left_context_size", -3, ValueError),
            ("left_context_size", 2.0, TypeError),
            ("subsampling_factor", 0, ValueError),
            ("causal_window", "middle", ValueError),
            ("mask_prob", 2, ValueError),
            ("block_size", 0, ValueError),
            ("max_mask_ratio", "all", TypeError),
        ],
    )
    def test_a_bad_value_set_later_is_named_at_its_use(self, name, value, error):
        module = causal()
        setattr(module, name, value)
        with pytest.raises(error, match=f"{name} must be .* got {value!r}"):
            module(features(2, 60), torch.tensor([60, 50]))

    def test_lengths_past_the_time_axis_are_refused_without_causal_masking_too(self):
        with pytest.raises(ValueError, match="input_lengths must be from 0 to T = 60 frames; got 61"):
            RandomBlockMasking(FEATURES)(features(2, 60), torch.tensor([60, 61]))


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("window", [None, *WINDOWS])
class TestWithoutTheHost:
    def module(self, window, overlap):
        return RandomBlockMasking(
            FEATURES,
            mask_prob=0.05 if overlap else 0.5,
            block_size=9,
            allow_overlap=overlap,
            causal=window is not None,
            causal_window=window or "tail",
            left_context_size=4,
            subsampling_factor=8,
        )

    def test_no_step_needs_a_value(self, window, overlap):
        """Tensors of the device "meta" have no values: an operation that needs one fails."""
        lengths = torch.zeros(2, dtype=torch.int32, device="meta")
        masked, masks = self.module(window, overlap).to("meta")(
            torch.zeros(2, FEATURES, 60, device="meta"), lengths, current_frame=lengths if window == "tail" else None
        )
        assert masked.shape == masks.shape == (2, FEATURES, 60)

    @pytest.mark.slow
    def test_it_compiles_without_a_graph_break_and_gives_the_same_masks(self, window, overlap):
        torch.compiler.reset()
        module = self.module(window, overlap)
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        feats, lengths = features(4, 200), torch.tensor([200, 100, 33, 8])
        results = []
        for call in (module, compiled):
            torch.manual_seed(5)
            results.append(call(feats, lengths))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
        assert results[0][1].any()

    @needs_cuda
    def test_a_cuda_device_never_waits_for_the_host(self, window, overlap):
        module, feats = self.module(window, overlap).cuda(), features(4, 200, device="cuda")
        lengths = torch.tensor([200, 100, 33, 8], device="cuda")
        module(feats, lengths)
        torch.cuda.set_sync_debug_mode("error")
        try:
            masked, masks = module(feats, lengths)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert masked.device == masks.device == feats.device
        assert masks[:, :, :].any() and not masks[3, :, 8:].any()

    @needs_cuda
    def test_a_cuda_graph_samples_a_new_mask_at_every_replay(self, window, overlap):
        module, feats = self.module(window, overlap).cuda(), features(4, 200, device="cuda")
        lengths = torch.tensor([200, 160, 120, 100], device="cuda")
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                module(feats, lengths)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            masked, masks = module(feats, lengths)
        sampled = []
        for _ in range(20):
            graph.replay()
            sampled.append(masks[:, 0].clone())
            assert torch.equal(masked, torch.where(masks > 0, module.mask_embedding.view(1, -1, 1), feats))
        assert len({tuple(mask.flatten().tolist()) for mask in sampled}) > 1

    @needs_cuda
    def test_a_cpu_generator_gives_the_same_masks_on_a_cuda_device(self, window, overlap):
        module, lengths = self.module(window, overlap), torch.tensor([200, 100, 33, 8])
        here = module.sample(lengths, 200, generator=generator(4))
        there = module.cuda().sample(lengths.cuda(), 200, generator=generator(4))
        assert torch.equal(here, there.cpu())


@pytest.mark.slow
@pytest.mark.skipif(
    not torch.cuda.is_available() and shutil.which("c++") is None, reason="compiling for the CPU needs a C++ compiler"
)
def test_compiled_to_machine_code_it_samples_from_the_same_distribution():
    torch.compiler.reset()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    module = causal("sliding", mask_prob=0.05, block_size=9, allow_overlap=True, left_context_size=4)
    module.subsampling_factor = 8
    compiled = torch.compile(module.to(device), fullgraph=True)
    feats = torch.zeros(8000, FEATURES, 100, device=device)
    lengths = torch.tensor([100, 61, 33, 8], device=device).repeat_interleave(2000)
    torch.manual_seed(0)
    rates = [call(feats, lengths)[1][:, 0].view(4, 2000, 100).double() for call in (module, compiled)]
    error = ((rates[0].var(1) + rates[1].var(1)) / 2000).sqrt()
    # 400 comparisons at 5 standard errors: a false alarm has a probability of 2e-4.
    assert ((rates[0].mean(1) - rates[1].mean(1)).abs() <= 5 * error).all()
    assert rates[1][:, :, 8:].any() and not rates[1][3, :, 8:].any()


def test_every_argument_of_nemo_s_class_is_taken_in_the_same_place():
    ours = list(inspect.signature(RandomBlockMasking).parameters.values())
    theirs = list(inspect.signature(NemoRandomBlockMasking).parameters.values())
    assert [(p.name, p.default) for p in ours[: len(theirs)]] == [(p.name, p.default) for p in theirs]


def test_masked_features_take_the_mask_value_under_the_key_of_the_random_embedding():
    """Log-mels without normalisation have a mean near -10; the random embedding lies around 0."""
    masking = RandomBlockMasking(feat_in=4, mask_prob=0.3, block_size=2, mask_value=-10.0, causal=True)
    assert masking.state_dict().keys() == RandomBlockMasking(feat_in=4).state_dict().keys()
    features = torch.randn(2, 4, 50)
    masked, masks = masking(input_feats=features, input_lengths=torch.tensor([50, 40]))
    assert 0 < masks.sum() and (masked[masks.bool()] == -10).all()
    assert torch.equal(masked[~masks.bool()], features[~masks.bool()])
