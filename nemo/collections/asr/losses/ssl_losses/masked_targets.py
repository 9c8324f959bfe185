"""Which tokens a masked-prediction loss asks for, and which decoder frame predicts each.

Token k is made of the frames of the mask from `k * combine_time_steps` on. The decoder can predict it once the encoder
has seen those frames: decoder frame `k + target_shift` predicts token k. Shapes: `T` frames of the mask, `K` tokens,
`S` decoder frames (encoder frames), `C` codes, `Q` codebooks.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["has_decoder_frame", "target_mask", "token_predictions"]


def target_mask(
    masks: Tensor,
    combine_time_steps: int = 1,
    mask_threshold: float = 0.8,
    decoder_lengths: Tensor | None = None,
    target_shift: int = 0,
) -> Tensor:
    """Which tokens are targets: those that are masked enough and are predicted before the utterance ends.

        >>> masks = torch.zeros(1, 80, 32)
        >>> masks[:, :, 8:31] = 1
        >>> target_mask(masks, combine_time_steps=8).tolist()
        [[False, True, True, True]]
        >>> target_mask(masks, combine_time_steps=8, decoder_lengths=torch.tensor([4]), target_shift=1).tolist()
        [[False, True, True, False]]

    Args:
        masks: 1 where features were masked, `[B, D, T]`, float or bool, any T. A stride-0 `expand` over D is read
            once, not D times.
        combine_time_steps: frames of `masks` in a token; T is padded with zeros to a multiple of it.
        mask_threshold: a token is masked if the mean of `masks` over its frames and channels is larger than this.
        decoder_lengths: valid decoder frames, `[B]`; None: all.
        target_shift: decoder frame `k + target_shift` predicts token k.

    Returns:
        bool `[B, K]`, `K = ceil(T / combine_time_steps)`.
    """
    if masks.stride(1) == 0:
        masks = masks[:, :1]
    tokens = -(-masks.shape[2] // combine_time_steps)
    padded = F.pad(masks, (0, tokens * combine_time_steps - masks.shape[2]))
    groups = padded.unflatten(2, (tokens, combine_time_steps))
    masked = groups.to(torch.promote_types(masks.dtype, torch.float32)).mean(dim=(1, 3)) > mask_threshold
    return masked & has_decoder_frame(masked, decoder_lengths, target_shift)


def has_decoder_frame(tokens: Tensor, decoder_lengths: Tensor | None, target_shift: int) -> Tensor:
    """Which of `tokens` `[B, K]` are predicted by a frame before the decoder's length, bool `[B, K]`."""
    if decoder_lengths is None:
        return torch.ones_like(tokens, dtype=torch.bool)
    frames = torch.arange(tokens.shape[1], device=tokens.device) + target_shift
    return frames < decoder_lengths.to(tokens.device).unsqueeze(1)


def token_predictions(decoder_outputs: Tensor, num_tokens: int, target_shift: int = 0) -> Tensor:
    """The id with the highest probability, for each token.

    Args:
        decoder_outputs: log-probabilities `[B, S, C]`, or `[B, S, C, Q]` of several codebooks.
        num_tokens: `K`, the tokens wanted; those without a decoder frame get id 0.
        target_shift: decoder frame `k + target_shift` predicts token k.

    Returns:
        int64 ids `[B, K]`, or `[B, K, Q]`.
    """
    ids = decoder_outputs.detach()[:, target_shift : target_shift + num_tokens].argmax(dim=2)
    return F.pad(ids, (0, 0) * (ids.dim() - 2) + (0, num_tokens - ids.shape[1]))
