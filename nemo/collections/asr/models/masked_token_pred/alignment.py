"""What must agree between encoder, masking, tokenizer and loss, set or checked when a model is built."""

from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from nemo.collections.asr.modules.ssl_modules.target_alignment import resolve_target_shift, subsampling_target_shift
from nemo.collections.asr.parts.attention_context import EncoderContext

__all__ = ["align_masking", "check_agreement", "heard_shift_of", "loss_config", "target_shift_of"]


def check_agreement(cfg: DictConfig, encoder: nn.Module) -> None:
    """Refuses a config whose parts do not fit one another; NeMo would train such a model without a word.

    Args:
        cfg: the model's config as it was written.
        encoder: as it was built; one without `subsampling_factor` is not asked for it.

    Raises:
        ValueError: naming the key, the value that would fit, the key that it must agree with, and what was given.
    """
    after_convolutions = cfg.get("mask_position", "pre_conv") == "post_conv"
    factor = getattr(encoder, "subsampling_factor", None)
    if factor is not None:
        for key in ("quantizer.combine_time_steps", "loss.combine_time_steps", "masking.subsampling_factor"):
            # Masking after the convolutions counts encoder frames; its config may be written in either unit. A factor
            # of 1 in masking means that left_context_size counts feature frames.
            default = factor if key.startswith("masking") else 1
            also = (1,) if after_convolutions or key.startswith("masking") else ()
            _check_equal(cfg, key, "encoder.subsampling_factor", factor, default, also)
    channels = cfg.preprocessor.get("features", 64)
    width = OmegaConf.select(cfg, "encoder.d_model", default=channels)
    for key in ("encoder.feat_in", "quantizer.feat_in", "masking.feat_in"):
        also = (width,) if after_convolutions and not key.startswith("encoder") else ()
        _check_equal(cfg, key, "preprocessor.features", channels, channels, also)
    codes, books = cfg.quantizer.get("num_classes"), cfg.quantizer.get("num_books")
    _check_equal(cfg, "decoder.num_classes", "quantizer.num_classes", codes)
    _check_equal(cfg, "num_books", "quantizer.num_books", books)
    _check_equal(cfg, "decoder.num_decoders", "quantizer.num_books", books)
    _check_equal(cfg, "loss.num_decoders", "quantizer.num_books", books)
    for key in ("squeeze_single", "decoder.squeeze_single", "loss.squeeze_single"):
        _check_equal(cfg, key, "quantizer.squeeze_single", cfg.quantizer.get("squeeze_single", False))
    # NeMo's encoders name the width of their frames alike, and compute it from different keys.
    _check_equal(cfg, "decoder.feat_in", "the width of the encoder's frames", getattr(encoder, "_feat_out", None))


_ABSENT = object()


def _check_equal(
    cfg: DictConfig, key: str, other_key: str, expected: object, default: object = _ABSENT, also: tuple = ()
) -> None:
    """`key` must be `expected`, the value of `other_key`, or one of `also`; `default` is what an absent key means."""
    value = OmegaConf.select(cfg, key)
    if value is None:
        value = default
    if expected is None or value is _ABSENT or value == expected or value in also:
        return
    name = key if "." in key else f"model.{key}"
    raise ValueError(f"{name} must be {expected}, as {other_key} is; got {value}")


def target_shift_of(cfg: DictConfig, encoder: nn.Module, after_convolutions: bool) -> int:
    """Encoder frame `k + shift` predicts token `k`: `model.target_shift`, derived from the subsampling for `auto`.

    Raises:
        ValueError, TypeError: a reduction layer, a subsampling whose alignment is not known, or a shift that is
            neither `auto` nor a whole number >= 0.
    """
    if encoder.reduction_subsampling is not None:
        raise ValueError(
            "encoder.reduction must be null, since masked token prediction needs one encoder frame for each target; "
            f"got {cfg.encoder.get('reduction')!r}"
        )
    pre_encode = encoder.pre_encode.pre_encode if after_convolutions else encoder.pre_encode
    wanted = cfg.get("target_shift", "auto")
    shift = resolve_target_shift(wanted, pre_encode, encoder.subsampling_factor)
    # After the convolutions, token k is made from encoder frame k itself.
    return 0 if after_convolutions and wanted == "auto" else shift


def loss_config(cfg: DictConfig, target_shift: int) -> DictConfig:
    """The config of the loss, with the shift of the targets."""
    return OmegaConf.create({**cfg.loss, "target_shift": target_shift})


def heard_shift_of(encoder: Any, after_convolutions: bool) -> int:
    """Encoder frame `k + shift` is the first that has heard all of token `k`, whatever `model.target_shift` says."""
    if after_convolutions:
        return 0
    return subsampling_target_shift(encoder.pre_encode, encoder.subsampling_factor)


def align_masking(
    mask_processor: Any, cfg: DictConfig, context: EncoderContext, after_convolutions: bool, masks: bool = True
) -> None:
    """Gives the mask processor the encoder's units, and the left context of evaluation.

    Args:
        mask_processor: as it was built.
        cfg: the model's config.
        context: of the encoder.
        after_convolutions: whether masking comes after the convolutions.
        masks: whether anything will be masked.

    Raises:
        ValueError: a trained left context of 0 with causal masking.
    """
    if "subsampling_factor" not in cfg.masking:
        mask_processor.subsampling_factor = 1 if after_convolutions else context.encoder.subsampling_factor
    if not getattr(mask_processor, "causal", False):
        return
    for trained in context.trained:
        if trained.left == 0 and masks:
            raise ValueError(
                "encoder.att_context_size must have left contexts above 0 with masking.causal: true, since 0 leaves "
                f"nothing to mask; got {trained}. Take it out, or set masking.causal: false"
            )
    mask_processor.left_context_size = context.evaluation.left
